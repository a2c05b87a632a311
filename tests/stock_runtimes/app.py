import os


def handler(event, context):
    if event.get("fail"):
        raise ValueError("as asked")
    print("seen", event)
    return {
        "echo": event,
        "requestId": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "function": context.function_name,
        "memory": int(context.memory_limit_in_mb),
        "left": context.get_remaining_time_in_millis(),
        "root": os.environ["LAMBDA_TASK_ROOT"],
    }
