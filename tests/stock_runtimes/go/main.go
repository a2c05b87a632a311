// A function in Go, as its users write it: the stock aws-lambda-go under the runtime "provided".
package main

import (
	"context"
	"errors"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

func handle(ctx context.Context, event map[string]any) (map[string]any, error) {
	if event["fail"] != nil {
		return nil, errors.New("as asked")
	}
	call, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return map[string]any{
		"echo":      event,
		"requestId": call.AwsRequestID,
		"arn":       call.InvokedFunctionArn,
		"function":  lambdacontext.FunctionName,
		"memory":    lambdacontext.MemoryLimitInMB,
		"deadline":  deadline.UnixMilli(),
		"root":      os.Getenv("LAMBDA_TASK_ROOT"),
	}, nil
}

func main() { lambda.Start(handle) }
