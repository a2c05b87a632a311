//! Counts the words of a text: {"text": "..."} in, {"words": 3, "longest": "..."} out.
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};
use serde_json::{Value, json};

async fn count(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let text = event.payload["text"]
        .as_str()
        .ok_or("the event has no text")?;
    println!("counting {} bytes", text.len());
    let longest = text
        .split_whitespace()
        .max_by_key(|word| word.chars().count());
    Ok(json!({
        "words": text.split_whitespace().count(),
        "longest": longest,
        "request_id": event.context.request_id,
    }))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_concurrent(service_fn(count)).await
}
