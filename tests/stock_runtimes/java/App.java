package app;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.LinkedHashMap;
import java.util.Map;

public class App implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        if (event.containsKey("fail")) throw new IllegalStateException("as asked");
        context.getLogger().log("seen " + event + "\n");
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("echo", event);
        answer.put("requestId", context.getAwsRequestId());
        answer.put("arn", context.getInvokedFunctionArn());
        answer.put("function", context.getFunctionName());
        answer.put("memory", context.getMemoryLimitInMB());
        answer.put("left", context.getRemainingTimeInMillis());
        answer.put("root", System.getenv("LAMBDA_TASK_ROOT"));
        return answer;
    }
}
