// Streamed answers of Node.js functions: the global `awslambda`, as AWS's runtime offers it.
//
// awslambda.streamifyResponse(async (event, responseStream, context) => ...) marks a handler;
// awslambda.HttpResponseStream.from(responseStream, metadata) gives an HTTP answer its head. The
// marks on handlers are those of AWS's runtime interface client, so that libraries which set them
// themselves work too.
'use strict';

const { Writable } = require('stream');

const { KIND } = require('./node_channel.js');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HTTP_INTEGRATION = 'application/vnd.awslambda.http-integration-response';
const MAX_CHUNK = 64 * 1024;
const HEAD_END = Buffer.alloc(8);

// The handler's second argument. Writing waits for the host where it has no room.
class ResponseStream extends Writable {
  constructor(channel, call) {
    super({ highWaterMark: MAX_CHUNK });
    this.alcove = { channel, call, begun: false, over: false, type: '', head: null };
    // Late writes of a call that is over must not end the process.
    this.on('error', () => {});
  }

  setContentType(type) {
    this.alcove.type = String(type);
  }

  _write(chunk, encoding, done) {
    const { over, call } = this.alcove;
    if (over) {
      done(new Error(`the answer to ${call.requestId} is over`));
      return;
    }
    this.begin();
    this.sendAll(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk, encoding));
    done();
  }

  _final(done) {
    if (!this.alcove.over) this.begin();
    done();
  }

  begin() {
    const state = this.alcove;
    if (state.begun) return;
    state.begun = state.call.streaming = true;
    const type = state.type || 'application/octet-stream';
    state.channel.send(KIND.STREAM, state.call.id, Buffer.from(type));
    if (state.head) this.sendAll(Buffer.concat([state.head, HEAD_END]));
  }

  sendAll(data) {
    const { channel, call } = this.alcove;
    for (let start = 0; start < data.length; start += MAX_CHUNK) {
      channel.send(KIND.CHUNK, call.id, data.subarray(start, start + MAX_CHUNK));
    }
  }
}

class HttpResponseStream {
  static from(stream, metadata) {
    stream.setContentType(HTTP_INTEGRATION);
    stream.alcove.head = Buffer.from(JSON.stringify(metadata ?? {}));
    return stream;
  }
}

function streamifyResponse(handler, options) {
  if (typeof handler !== 'function') throw new TypeError('a handler must be a function');
  handler[STREAMING] = 'response';
  if (options?.highWaterMark) {
    handler[Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')] = options.highWaterMark;
  }
  return handler;
}

// Call the handler; resolve with { error } or {} when it has returned and the stream has ended.
// `drained` has a callback called when the event loop has nothing left to do.
function runStreaming(handler, event, stream, context, drained) {
  return new Promise((resolve) => {
    const end = (outcome) => {
      stream.alcove.over = true;
      drained(null);
      resolve(outcome);
    };
    // Nothing runs any more that could go on with the answer.
    const close = () => {
      if (stream.writableFinished) end({});
      else stream.once('finish', () => end({}));
      if (!stream.writableEnded) stream.end();
    };
    stream.once('error', (error) => end({ error }));
    stream.once('close', () => {
      if (!stream.writableFinished) end({ error: new Error('the answer was destroyed') });
    });
    drained(close);
    let returned;
    try {
      returned = handler(event, stream, context);
    } catch (error) {
      end({ error });
      return;
    }
    Promise.resolve(returned).then(
      () => {
        if (stream.writableFinished) end({});
        else stream.once('finish', () => end({}));
      },
      (error) => end({ error }),
    );
  });
}

module.exports = {
  HttpResponseStream, ResponseStream, STREAMING, runStreaming, streamifyResponse,
};
