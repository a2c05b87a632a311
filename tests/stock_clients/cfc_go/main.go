// The stock clients for Go of CFC and BCI, driven by lines of JSON: {"call": METHOD, "args": [..]} in, {"result": ..} or
// {"error": {..}} out. Arguments: endpoint, access key, secret key, service. With no line read yet it prints the names
// of the client's methods.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"

	"github.com/baidubce/bce-sdk-go/bce"
	"github.com/baidubce/bce-sdk-go/services/bci"
	"github.com/baidubce/bce-sdk-go/services/cfc"
)

type request struct {
	Call string
	Args []json.RawMessage
}

type failure struct {
	Code, Message, RequestId string
	Status                   int
}

type answer struct {
	Result interface{} `json:"result,omitempty"`
	Error  *failure    `json:"error,omitempty"`
}

func describe(err error) *failure {
	var service *bce.BceServiceError
	if errors.As(err, &service) {
		return &failure{service.Code, service.Message, service.RequestId, service.StatusCode}
	}
	return &failure{Message: err.Error()}
}

// Calls the method with its arguments read as their own types.
func call(client reflect.Value, asked request) answer {
	method := client.MethodByName(asked.Call)
	arguments := make([]reflect.Value, len(asked.Args))
	for index, text := range asked.Args {
		value := reflect.New(method.Type().In(index))
		if err := json.Unmarshal(text, value.Interface()); err != nil {
			return answer{Error: describe(err)}
		}
		arguments[index] = value.Elem()
	}
	results := method.Call(arguments)
	if err, failed := results[len(results)-1].Interface().(error); failed {
		return answer{Error: describe(err)}
	}
	return answer{Result: results[0].Interface()}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func open(service, endpoint, key, secret string) reflect.Value {
	if service == "bci" {
		client, err := bci.NewClient(key, secret, endpoint)
		check(err)
		client.Config.Retry = bce.NewNoRetryPolicy()
		return reflect.ValueOf(client)
	}
	client, err := cfc.NewClient(key, secret, endpoint)
	check(err)
	client.Config.Retry = bce.NewNoRetryPolicy()
	return reflect.ValueOf(client)
}

func main() {
	value := open(os.Args[4], os.Args[1], os.Args[2], os.Args[3])
	own := reflect.TypeOf(&bce.BceClient{})
	methods := []string{}
	for index := 0; index < value.NumMethod(); index++ {
		name := value.Type().Method(index).Name
		if _, inherited := own.MethodByName(name); !inherited {
			methods = append(methods, name)
		}
	}
	out := json.NewEncoder(os.Stdout)
	check(out.Encode(methods))
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var asked request
		check(json.Unmarshal(lines.Bytes(), &asked))
		check(out.Encode(call(value, asked)))
	}
}
