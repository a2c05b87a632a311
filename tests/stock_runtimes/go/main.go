// A function in Go, as its users write it: the stock aws-lambda-go under the runtime "provided".
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

var inside sync.WaitGroup

// Streams so many parts and, where it is asked to, fails then.
func stream(parts int, fail bool) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		part := strings.Repeat("g", 65536)
		for n := 0; n < parts; n++ {
			io.WriteString(writer, part)
		}
		if fail {
			writer.CloseWithError(errors.New("in the midst"))
		}
		writer.Close()
	}()
	return reader
}

func handle(ctx context.Context, event map[string]any) (any, error) {
	if parts, ok := event["parts"].(float64); ok {
		return stream(int(parts), event["fail"] != nil), nil
	}
	if event["fail"] != nil {
		return nil, errors.New("as asked")
	}
	if event["meet"] != nil {
		// Goes on when all that the machine takes at once are inside.
		inside.Done()
		inside.Wait()
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

// A loop for each request that the machine takes at once, as newer releases of the library have them themselves.
func main() {
	most, _ := strconv.Atoi(os.Getenv("AWS_LAMBDA_MAX_CONCURRENCY"))
	inside.Add(most)
	for n := 1; n < most; n++ {
		go lambda.Start(handle)
	}
	lambda.Start(handle)
}
