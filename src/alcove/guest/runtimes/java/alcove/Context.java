package alcove;

import java.lang.reflect.Proxy;
import java.util.Map;

/**
 * The handler's Context. The interface is the package's own (aws-lambda-java-core), in whatever release it brings, so
 * it is implemented when it is seen, by the names of its methods.
 */
final class Context {
    private Context() {}

    static Object of(Class<?> type, Map<String, Object> load, Map<String, Object> call) {
        long deadline = ((Number) call.get("deadline_ms")).longValue();
        return implement(type, (name, result, arguments) -> switch (name) {
            case "getAwsRequestId" -> call.get("request_id");
            case "getLogGroupName" -> load.get("log_group");
            case "getLogStreamName" -> load.get("log_stream");
            case "getFunctionName" -> load.get("function_name");
            case "getFunctionVersion" -> load.get("version");
            case "getInvokedFunctionArn" -> call.get("arn");
            case "getXrayTraceId" -> call.get("trace_id");
            case "getMemoryLimitInMB" -> ((Number) load.get("memory_mib")).intValue();
            case "getRemainingTimeInMillis" -> (int) Math.max(0, deadline - System.currentTimeMillis());
            case "getIdentity" -> document(call.get("identity")) instanceof Map<?, ?> map ? identity(result, map) : null;
            case "getClientContext" -> document(call.get("client_context")) instanceof Map<?, ?> map ? client(result, map) : null;
            case "getLogger" -> implement(result, (method, nothing, said) -> {
                Log.write(said, load, call.get("request_id"));
                return null;
            });
            default -> null;
        });
    }

    private static Object document(Object value) {
        return value instanceof String text && !text.isEmpty() ? Json.parse(text) : value;
    }

    private static Object identity(Class<?> type, Map<?, ?> identity) {
        return implement(type, (name, result, arguments) -> switch (name) {
            case "getIdentityId" -> identity.get("cognitoIdentityId");
            case "getIdentityPoolId" -> identity.get("cognitoIdentityPoolId");
            default -> null;
        });
    }

    private static Object client(Class<?> type, Map<?, ?> context) {
        return implement(type, (name, result, arguments) -> switch (name) {
            case "getCustom" -> context.get("custom");
            case "getEnvironment" -> context.get("env");
            case "getClient" -> context.get("client") instanceof Map<?, ?> map ? installation(result, map) : null;
            default -> null;
        });
    }

    private static Object installation(Class<?> type, Map<?, ?> client) {
        return implement(type, (name, result, arguments) -> client.get(switch (name) {
            case "getInstallationId" -> "installation_id";
            case "getAppTitle" -> "app_title";
            case "getAppVersionName" -> "app_version_name";
            case "getAppVersionCode" -> "app_version_code";
            default -> "app_package_name";
        }));
    }

    interface Answers {
        Object to(String name, Class<?> result, Object[] arguments);
    }

    private static Object implement(Class<?> type, Answers answers) {
        return Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (proxy, method, arguments) ->
                switch (method.getName()) {
                    case "toString" -> type.getSimpleName();
                    case "hashCode" -> System.identityHashCode(proxy);
                    case "equals" -> proxy == arguments[0];
                    default -> answers.to(method.getName(), method.getReturnType(), arguments);
                });
    }
}
