'use strict';

exports.handler = async (event, context) => {
  if (event.fail) throw new RangeError('as asked');
  console.log('seen', event);
  return {
    echo: event,
    requestId: context.awsRequestId,
    arn: context.invokedFunctionArn,
    function: context.functionName,
    memory: Number(context.memoryLimitInMB),
    left: context.getRemainingTimeInMillis(),
    root: process.env.LAMBDA_TASK_ROOT,
  };
};

exports.stream = awslambda.streamifyResponse(async (event, stream) => {
  stream.setContentType('text/css');
  for (let n = 0; n < event.parts; n += 1) stream.write(Buffer.alloc(65536, 'r'));
  if (event.fail) throw new RangeError('in the midst');
  stream.end('end');
});
