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
