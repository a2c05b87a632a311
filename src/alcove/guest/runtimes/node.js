// The Node.js runtime: loads a handler, calls it, answers, one request at a time unless requests are
// said to be shared: those run side by side on the event loop.
//
// The counterpart of python.py: the same frames, the same order of things. While a request is
// handled nothing of ours keeps the event loop alive, so an empty loop ("beforeExit") means that
// the tenant has nothing left to do. Handlers are called, and contexts made, as AWS's runtime
// interface client for Node.js does it.
'use strict';

const fs = require('fs');
const Module = require('module');

const { Channel, KIND } = require('./node_channel.js');
const handlers = require('./node_handler.js');
const log = require('./node_log.js');
const random = require('./node_random.js');
const requests = require('./node_store.js');
const streams = require('./node_stream.js');

const { RuntimeError, failure, isError } = handlers;
const MAX_RESULT = 6 * 1024 * 1024;
const EXIT_PROTOCOL = 65;
const EXIT_REJECTION = 128;
const EXIT_EXCEPTION = 129;
const NOTHING = Buffer.alloc(0);
const DEFAULTS = {
  LANG: 'C.UTF-8',
  TZ: ':UTC',
  PATH: '/usr/local/bin:/usr/bin:/bin:/opt/bin',
  HOME: '/tmp',
  LD_LIBRARY_PATH: '/var/task/lib:/opt/lib',
  NODE_PATH: '/opt/nodejs/node18/node_modules:/opt/nodejs/node_modules:/opt/node_modules:/usr/share/nodejs',
};

const channel = new Channel(Number(process.env.ALCOVE_CHANNEL_FD || 3));
const hooks = { before: [], after: [] };
let load = null;
let handler = null;
let saved = null; // what a rehearsal will have changed
let current = null; // the frame that is being answered: { kind, id, requestId, streaming }
const shared = new Map(); // shared requests that are under way: by the ids of their frames
let onDrained = null; // called when the event loop has nothing left to do

// Loading

function variables() {
  return {
    _HANDLER: load.handler,
    LAMBDA_TASK_ROOT: load.task_root,
    LAMBDA_RUNTIME_DIR: '/opt/alcove',
    AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs18.x',
    AWS_LAMBDA_FUNCTION_NAME: load.function_name,
    AWS_LAMBDA_FUNCTION_VERSION: load.version,
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(load.memory_mib),
    AWS_LAMBDA_LOG_GROUP_NAME: load.log_group,
    AWS_LAMBDA_LOG_STREAM_NAME: load.log_stream,
    AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
    AWS_LAMBDA_LOG_FORMAT: (load.logging && load.logging.format) || 'Text',
    ...(load.logging && load.logging.level ? { AWS_LAMBDA_LOG_LEVEL: load.logging.level } : {}),
  };
}

function setEnvironment(values) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, values);
  // NODE_PATH is looked at once, when Node.js starts.
  Module._initPaths();
}

async function onLoad(payload) {
  const began = performance.now();
  load = JSON.parse(payload);
  random.reseed();
  log.install(load.logging);
  if (load.rehearsal) saved = { ...process.env };
  setEnvironment({ ...DEFAULTS, ...variables(), ...load.environment });
  try {
    process.chdir(load.task_root);
    const find = load.rehearsal ? handlers.rehearseHandler : handlers.findHandler;
    handler = await find(load.handler, load.task_root);
  } catch (error) {
    return [KIND.FAILURE, failure(error)];
  }
  return [KIND.LOADED, Buffer.from(JSON.stringify({ init_ms: performance.now() - began }))];
}

function forgetModules(root) {
  for (const name of Object.keys(require.cache)) {
    if (name.startsWith(`${root}/`)) delete require.cache[name];
  }
  for (const key of Object.keys(Module._pathCache)) {
    if (Module._pathCache[key].startsWith(`${root}/`)) delete Module._pathCache[key];
  }
}

function onUnload() {
  if (load) forgetModules(load.task_root);
  setEnvironment(saved ?? {});
  [load, handler, saved] = [null, null, null];
  requests.forget();
  hooks.before.length = hooks.after.length = 0;
  process.chdir('/');
  return [KIND.DONE, NOTHING];
}

// Hooks around a snapshot

function registrar(list) {
  return (hook) => {
    if (typeof hook !== 'function') throw new TypeError('a hook must be a function');
    list.push(hook);
  };
}

async function onHook(payload) {
  try {
    if (JSON.parse(payload).hook === 'before_snapshot') {
      for (const hook of [...hooks.before].reverse()) await hook();
      random.useOpenssl();
    } else {
      random.reseed();
      for (const hook of hooks.after) await hook();
    }
  } catch (error) {
    return [KIND.FAILURE, failure(error)];
  }
  return [KIND.DONE, NOTHING];
}

// Calls

function contextOf(call, settle) {
  const context = {
    callbackWaitsForEmptyEventLoop: true,
    functionName: load.function_name,
    functionVersion: load.version,
    invokedFunctionArn: call.arn,
    memoryLimitInMB: String(load.memory_mib),
    awsRequestId: call.request_id,
    xRayTraceId: call.trace_id || undefined,
    // Baidu CFC's name for the same.
    requestId: call.request_id,
    logGroupName: load.log_group,
    logStreamName: load.log_stream,
    identity: call.identity || undefined,
    clientContext: call.client_context ? JSON.parse(call.client_context) : undefined,
    getRemainingTimeInMillis: () => Math.max(0, call.deadline_ms - Date.now()),
  };
  context.done = (error, value) => {
    context.callbackWaitsForEmptyEventLoop = false;
    settle(error, value);
  };
  context.succeed = (value) => context.done(null, value);
  context.fail = (error) => context.done(error ?? 'handled');
  return context;
}

// Call the handler; resolve with { error } or { value }. A callback's value waits until the event
// loop is empty, unless the handler has said otherwise; a promise's does not.
function run(call, event) {
  return new Promise((resolve) => {
    let ended = false;
    let settled = false;
    // A late callback of this call's must not end the next one.
    const end = (outcome) => {
      if (ended) return;
      ended = settled = true;
      onDrained = null;
      resolve(outcome);
    };
    const settle = (error, value) => {
      if (settled) return;
      settled = true;
      if (error !== null && error !== undefined) end({ error });
      else if (!context.callbackWaitsForEmptyEventLoop) end({ value });
      else onDrained = () => end({ value });
    };
    const context = contextOf(call, settle);
    onDrained = () => end({ value: null });
    let returned;
    try {
      returned = handler(event, context, settle);
    } catch (error) {
      end({ error });
      return;
    }
    if (returned && typeof returned.then === 'function') {
      returned.then((value) => end({ value }), (error) => end({ error }));
    } else if (returned !== undefined && handler.length < 2) {
      // It was given nothing to call back with: AWS would answer null.
      end({ value: returned });
    }
  });
}

function whenDrained(callback) {
  onDrained = callback;
}

// `asked` is what is answered: an entry of `shared`, or `current`.
async function stream(call, event, asked, drained) {
  const answerStream = new streams.ResponseStream(channel, asked);
  const context = contextOf(call, () => {});
  const outcome = await streams.runStreaming(handler, event, answerStream, context, drained);
  return 'error' in outcome ? [KIND.FAILURE, failure(outcome.error)] : [KIND.END, NOTHING];
}

// Call the handler while others are under way. The event loop is never empty then, so an answer does
// not wait for that: a handler returns a promise, or calls back.
function runShared(call, event) {
  return new Promise((resolve) => {
    const settle = (error, value) => {
      resolve(error === null || error === undefined ? { value } : { error });
    };
    const context = contextOf(call, settle);
    context.callbackWaitsForEmptyEventLoop = false;
    let returned;
    try {
      returned = handler(event, context, settle);
    } catch (error) {
      resolve({ error });
      return;
    }
    if (returned && typeof returned.then === 'function') {
      returned.then((value) => resolve({ value }), (error) => resolve({ error }));
    } else if (handler.length < 2) {
      resolve({ value: returned });
    }
  });
}

async function callShared(call, data, asked) {
  try {
    if (!handler) throw new RuntimeError('Runtime.NotLoaded', 'no handler is loaded');
    const event = parseEvent(data);
    if (handler[streams.STREAMING] === 'response') {
      return await stream(call, event, asked, () => {});
    }
    const outcome = await runShared(call, event);
    if ('error' in outcome) {
      const document = failure(outcome.error);
      log.failure(document);
      return [KIND.FAILURE, document];
    }
    return [KIND.RESULT, serialise(outcome.value)];
  } catch (error) {
    return [KIND.FAILURE, failure(error)];
  }
}

async function serveShared(id, call, data) {
  const asked = { id, requestId: call.request_id, streaming: false };
  shared.set(id, asked);
  // The process has one environment.
  delete process.env._X_AMZN_TRACE_ID;
  const [kind, payload] = await requests.within(call, () => callShared(call, data, asked));
  answerShared(asked, kind, payload);
}

function parseEvent(bytes) {
  try {
    return bytes.length ? JSON.parse(bytes.toString()) : null;
  } catch (error) {
    throw new RuntimeError('Runtime.UnmarshalError', `Unable to unmarshal input: ${error.message}`);
  }
}

function serialise(value) {
  let text;
  try {
    text = JSON.stringify(value === undefined ? null : value);
  } catch (error) {
    const message = `Unable to stringify response body: ${error.message}`;
    throw new RuntimeError('Runtime.MarshalError', message);
  }
  // A function or a symbol has no JSON.
  const answer = Buffer.from(text === undefined ? 'null' : text);
  if (answer.length > MAX_RESULT) {
    const limit = `exceeded maximum allowed payload size (${MAX_RESULT} bytes).`;
    const message = `Response payload size (${answer.length} bytes) ${limit}`;
    throw new RuntimeError('Function.ResponseSizeTooLarge', message);
  }
  return answer;
}

function split(payload) {
  const end = 2 + payload.readUInt16BE(0);
  return { call: JSON.parse(payload.subarray(2, end)), data: payload.subarray(end) };
}

async function onInvoke(payload) {
  const { call, data } = split(payload);
  current.requestId = call.request_id;
  log.begin(call.request_id);
  requests.begin(call);
  if (call.trace_id) process.env._X_AMZN_TRACE_ID = call.trace_id;
  else delete process.env._X_AMZN_TRACE_ID;
  try {
    if (!handler) throw new RuntimeError('Runtime.NotLoaded', 'no handler is loaded');
    const event = parseEvent(data);
    if (handler[streams.STREAMING] === 'response') return await stream(call, event, current, whenDrained);
    const outcome = await run(call, event);
    if ('error' in outcome) {
      const document = failure(outcome.error);
      log.failure(document);
      return [KIND.FAILURE, document];
    }
    return [KIND.RESULT, serialise(outcome.value)];
  } catch (error) {
    return [KIND.FAILURE, failure(error)];
  }
}

// Answers and ends

function answer(kind, payload) {
  const { id, kind: asked, requestId, streaming } = current;
  current = null;
  onDrained = null;
  // An answer that has begun ends, well or with an error.
  channel.send(streaming ? KIND.END : kind, id, payload);
  if (asked === KIND.INVOKE) mark(requestId);
}

function mark(requestId) {
  try {
    fs.writeSync(2, `\0alcove:end:${requestId}\0`);
  } catch {
    // The tenant may have closed it.
  }
}

function answerShared(asked, kind, payload) {
  // It may have been told of an end already.
  if (!shared.delete(asked.id)) return;
  channel.send(asked.streaming ? KIND.END : kind, asked.id, payload);
  mark(asked.requestId);
}

// What nobody caught ends the process, as on AWS, but not before the caller has been told.
function onStray(error, code) {
  const told = [...shared.values()];
  for (const asked of told) answerShared(asked, KIND.FAILURE, failure(error));
  if (current) answer(KIND.FAILURE, failure(error));
  else if (told.length === 0) fs.writeSync(2, `${isError(error) ? error.stack : String(error)}\n`);
  process.exit(code);
}

function onRejection(reason) {
  const text = isError(reason) ? `${reason.name}: ${reason.message}` : String(reason);
  const cause = isError(reason) ? reason : undefined;
  onStray(new RuntimeError('Runtime.UnhandledPromiseRejection', text, cause), EXIT_REJECTION);
}

function exited(requestId, code) {
  const request = requestId ? `RequestId: ${requestId} ` : '';
  const message = `${request}Error: Runtime exited with error: exit status ${code}`;
  return failure({ name: 'Runtime.ExitError', message, stack: '' });
}

function onExit(code) {
  for (const asked of [...shared.values()]) {
    answerShared(asked, KIND.FAILURE, exited(asked.requestId, code));
  }
  if (current) answer(KIND.FAILURE, exited(current.requestId, code));
}

function onBeforeExit() {
  if (onDrained) {
    const drained = onDrained;
    onDrained = null;
    drained();
  } else if (current) {
    // The module or a hook waits for what will never come.
    process.exit(13);
  }
}

function prepare() {
  for (const name of Object.keys(process.env)) {
    if (name.startsWith('ALCOVE_')) delete process.env[name];
  }
  random.install();
  Object.defineProperty(globalThis, 'alcove', {
    value: Object.freeze({
      onBeforeSnapshot: registrar(hooks.before),
      onAfterRestore: registrar(hooks.after),
    }),
  });
  // AWS's libraries write to it.
  globalThis.awslambda = {
    streamifyResponse: streams.streamifyResponse,
    HttpResponseStream: streams.HttpResponseStream,
    InvokeStore: requests.store,
  };
  process.on('uncaughtException', (error) => onStray(error, EXIT_EXCEPTION));
  process.on('unhandledRejection', onRejection);
  process.on('exit', onExit);
  process.on('beforeExit', onBeforeExit);
  // An exit waits for the pool's threads, and one of them may wait for the host.
  const reallyExit = process.reallyExit;
  process.reallyExit = (code) => {
    if (channel.waiting) process.kill(process.pid, 'SIGKILL');
    reallyExit.call(process, code);
  };
}

async function main() {
  prepare();
  channel.send(KIND.READY, 0, Buffer.from('{"runtime": "nodejs18", "protocol": 1}'));
  const answers = {
    [KIND.LOAD]: onLoad,
    [KIND.INVOKE]: onInvoke,
    [KIND.HOOK]: onHook,
    [KIND.UNLOAD]: onUnload,
    [KIND.PING]: (payload) => [KIND.PONG, payload],
  };
  for (;;) {
    const frame = await channel.receive();
    if (frame === null) process.exit(0);
    const act = answers[frame.kind];
    if (!act) process.exit(EXIT_PROTOCOL);
    const invocation = frame.kind === KIND.INVOKE ? split(frame.payload) : null;
    if (invocation?.call.shared) {
      serveShared(frame.id, invocation.call, invocation.data);
      continue;
    }
    current = { kind: frame.kind, id: frame.id, requestId: '', streaming: false };
    const [kind, payload] = await act(frame.payload);
    answer(kind, payload);
  }
}

main().catch((error) => {
  fs.writeSync(2, `alcove: ${error && error.stack}\n`);
  process.exit(EXIT_PROTOCOL);
});
