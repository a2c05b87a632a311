// The Node.js runtime: loads a handler, calls it, answers, one request at a time.
//
// The counterpart of python.py: the same frames (wire/frame.py), the same order of things. Errors have the shapes of AWS's
// Node.js runtime: errorType, errorMessage, trace.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const Module = require('module');
const path = require('path');
const { pathToFileURL } = require('url');

const KIND = { READY: 16, LOAD: 17, LOADED: 18, INVOKE: 19, RESULT: 20, FAILURE: 21, HOOK: 22, DONE: 23, UNLOAD: 24, PING: 25, PONG: 26 };
const HEADER = 9;
const MAX_PAYLOAD = 6 * 1024 * 1024 + 64 * 1024;
const MAX_RESULT = 6 * 1024 * 1024;
// How soon a port is looked at again when the host's daemon is away.
const AWAY_MS = 20;
const DEFAULTS = {
  LANG: 'C.UTF-8',
  TZ: ':UTC',
  PATH: '/usr/local/bin:/usr/bin:/bin:/opt/bin',
  HOME: '/tmp',
  LD_LIBRARY_PATH: '/var/task/lib:/opt/lib',
  NODE_PATH: '/opt/nodejs/node_modules:/opt/node_modules:/usr/share/nodejs',
};

// Channel

const fd = Number(process.env.ALCOVE_CHANNEL_FD || 3);
const isPort = fs.fstatSync(fd).isCharacterDevice();

function send(kind, id, payload) {
  const frame = Buffer.allocUnsafe(HEADER + payload.length);
  frame.writeUInt32BE(payload.length, 0);
  frame.writeUInt8(kind, 4);
  frame.writeUInt32BE(id, 5);
  payload.copy(frame, HEADER);
  let written = 0;
  while (written < frame.length) {
    try {
      written += fs.writeSync(fd, frame, written);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

// Reads go through the thread pool, so that timers and promises of the handler's run on while the channel is idle.
function read(buffer, offset) {
  return new Promise((resolve, reject) => {
    const attempt = () =>
      fs.read(fd, buffer, offset, buffer.length - offset, null, (error, count) => {
        if (error && error.code !== 'EAGAIN') reject(error);
        else if (count) resolve(count);
        else if (isPort || error) setTimeout(attempt, AWAY_MS);
        else process.exit(0);
      });
    attempt();
  });
}

async function readExactly(size) {
  const buffer = Buffer.allocUnsafe(size);
  let have = 0;
  while (have < size) have += await read(buffer, have);
  return buffer;
}

async function receive() {
  const header = await readExactly(HEADER);
  const length = header.readUInt32BE(0);
  if (length > MAX_PAYLOAD) throw new Error(`frame of ${length} bytes`);
  return { kind: header.readUInt8(4), id: header.readUInt32BE(5), payload: await readExactly(length) };
}

// Clone safety: Math.random draws from V8's own state, which every clone of a saved machine would share.

const state = new BigUint64Array(2);
const unit = new Float64Array(1);
const bits = new BigUint64Array(unit.buffer);

function reseed() {
  const seed = fs.openSync('/dev/urandom', 'r');
  try {
    fs.readSync(seed, new Uint8Array(state.buffer), 0, 16, null);
  } finally {
    fs.closeSync(seed);
  }
  state[0] |= 1n;
  // OpenSSL's generator finds its reseeding time in the future (see before_snapshot) and reseeds, with all that hang on it.
  crypto.randomBytes(1);
}

// xorshift128+, as V8 has it: 52 bits of the first word as a fraction.
Math.random = function random() {
  let one = state[0];
  const zero = state[1];
  state[0] = zero;
  one = BigInt.asUintN(64, one ^ (one << 23n));
  one ^= one >> 17n;
  one ^= zero ^ (zero >> 26n);
  state[1] = one;
  bits[0] = (state[0] >> 12n) | 0x3ff0000000000000n;
  return unit[0] - 1;
};

// randomUUID keeps random bytes ahead, which clones would share.
const randomUUID = crypto.randomUUID;
crypto.randomUUID = (options) => randomUUID({ ...options, disableEntropyCache: true });

// Hooks around a snapshot, for tenant code.

const hooks = { before: [], after: [] };
Object.defineProperty(globalThis, 'alcove', {
  value: Object.freeze({
    onBeforeSnapshot: (hook) => hooks.before.push(hook),
    onAfterRestore: (hook) => hooks.after.push(hook),
  }),
});

// Errors

class RuntimeError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

function failure(error) {
  const isError = error instanceof Error || (error && typeof error === 'object' && 'stack' in error);
  const message = isError ? error.message : typeof error === 'string' ? error : String(JSON.stringify(error));
  const document = {
    errorType: (isError && (error.kind || error.name)) || typeof error,
    errorMessage: String(message).slice(0, 65536),
    trace: isError ? String(error.stack || '').split('\n').slice(0, 64) : [],
  };
  return Buffer.from(JSON.stringify(document));
}

// Loading

let load = null;
let handler = null;
let saved = null;

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
  };
}

function setEnvironment(values) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, values);
}

async function importModule(file, name) {
  const candidates = ['', '.js', '.mjs', '.cjs'].map((suffix) => file + suffix);
  const found = candidates.find((candidate) => fs.statSync(candidate, { throwIfNoEntry: false })?.isFile());
  if (!found) throw new RuntimeError('Runtime.ImportModuleError', `Error: Cannot find module '${name}'`);
  try {
    if (found.endsWith('.mjs')) return await import(pathToFileURL(found));
    try {
      return require(found);
    } catch (error) {
      if (error.code !== 'ERR_REQUIRE_ESM' && !(error instanceof SyntaxError && /import|export/.test(error.message))) throw error;
      return await import(pathToFileURL(found));
    }
  } catch (error) {
    if (error instanceof SyntaxError) throw new RuntimeError('Runtime.UserCodeSyntaxError', `SyntaxError: ${error.message}`);
    if (error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND')) {
      throw new RuntimeError('Runtime.ImportModuleError', `Error: ${error.message}`);
    }
    throw error;
  }
}

async function findHandler(name, root) {
  const match = /^((?:.*\/)?[^.]+)\.(.+)$/.exec(name);
  if (!match || name.includes('..')) throw new RuntimeError('Runtime.MalformedHandlerName', 'Bad handler');
  const module = await importModule(path.resolve(root, match[1]), match[1]);
  const find = (from) => match[2].split('.').reduce((value, part) => value?.[part], from);
  const found = find(module) ?? find(module.default);
  if (found === undefined) throw new RuntimeError('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  if (typeof found !== 'function') throw new RuntimeError('Runtime.HandlerNotFound', `${name} is not a function`);
  return found;
}

async function onLoad(payload) {
  const began = performance.now();
  load = JSON.parse(payload);
  reseed();
  if (load.rehearsal) saved = { environment: { ...process.env }, cache: new Set(Object.keys(require.cache)) };
  setEnvironment({ ...DEFAULTS, ...variables(), ...load.environment });
  Module._initPaths();
  process.chdir(load.task_root);
  try {
    handler = await findHandler(load.handler, load.task_root);
  } catch (error) {
    return [KIND.FAILURE, failure(error)];
  }
  return [KIND.LOADED, Buffer.from(JSON.stringify({ init_ms: performance.now() - began }))];
}

function onUnload() {
  if (saved) {
    for (const name of Object.keys(require.cache)) if (!saved.cache.has(name)) delete require.cache[name];
    for (const key of Object.keys(Module._pathCache)) delete Module._pathCache[key];
    setEnvironment(saved.environment);
  }
  [load, handler, saved] = [null, null, null];
  process.chdir('/');
  return [KIND.DONE, Buffer.alloc(0)];
}

async function onHook(payload) {
  const { hook } = JSON.parse(payload);
  try {
    if (hook === 'before_snapshot') {
      for (const registered of [...hooks.before].reverse()) await registered();
      // The agent has moved the clock years ahead: OpenSSL notes when it is to reseed, and a clone finds that in its future.
      crypto.randomBytes(1);
    } else {
      reseed();
      for (const registered of hooks.after) await registered();
    }
  } catch (error) {
    return [KIND.FAILURE, failure(error)];
  }
  return [KIND.DONE, Buffer.alloc(0)];
}

// Calls

let call = null; // { id, requestId, settle } of the request that is being handled

function contextOf(meta) {
  const settle = (error, value) => call && call.settle(error, value);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: load.function_name,
    functionVersion: load.version,
    invokedFunctionArn: meta.arn,
    memoryLimitInMB: String(load.memory_mib),
    awsRequestId: meta.request_id,
    requestId: meta.request_id,
    logGroupName: load.log_group,
    logStreamName: load.log_stream,
    identity: undefined,
    clientContext: meta.client_context ? JSON.parse(meta.client_context) : undefined,
    getRemainingTimeInMillis: () => Math.max(0, meta.deadline_ms - Date.now()),
    done: settle,
    succeed: (value) => settle(null, value),
    fail: (error) => settle(error ?? new Error('failed')),
  };
}

function run(meta, event) {
  return new Promise((resolve) => {
    let settled = false;
    const settle = (error, value) => {
      if (settled) return;
      settled = true;
      resolve(error !== null && error !== undefined ? { error } : { value });
    };
    call = { settle };
    let returned;
    try {
      returned = handler(event, contextOf(meta), settle);
    } catch (error) {
      settle(error);
      return;
    }
    if (returned && typeof returned.then === 'function') returned.then((value) => settle(null, value), (error) => settle(error ?? new Error('rejected')));
    else if (handler.length < 3 && returned !== undefined) settle(null, returned);
    else if (handler.length < 2) settle(null, returned);
  });
}

async function onInvoke(payload) {
  const split = 2 + payload.readUInt16BE(0);
  const meta = JSON.parse(payload.subarray(2, split));
  requestId = meta.request_id;
  if (!handler) return [KIND.FAILURE, failure(new RuntimeError('Runtime.NotLoaded', 'no handler is loaded'))];
  if (meta.trace_id) process.env._X_AMZN_TRACE_ID = meta.trace_id;
  let event;
  try {
    event = JSON.parse(payload.subarray(split).toString() || 'null');
  } catch (error) {
    return [KIND.FAILURE, failure(new RuntimeError('Runtime.UnmarshalError', error.message))];
  }
  const outcome = await run(meta, event);
  call = null;
  if ('error' in outcome) return [KIND.FAILURE, failure(outcome.error)];
  let answer;
  try {
    answer = Buffer.from(JSON.stringify(outcome.value) ?? 'null');
  } catch (error) {
    return [KIND.FAILURE, failure(new RuntimeError('Runtime.MarshalError', `Unable to stringify response body: ${error.message}`))];
  }
  if (answer.length > MAX_RESULT) {
    const message = `Response payload size (${answer.length} bytes) exceeded maximum allowed payload size (${MAX_RESULT} bytes).`;
    return [KIND.FAILURE, failure(new RuntimeError('Function.ResponseSizeTooLarge', message))];
  }
  return [KIND.RESULT, answer];
}

let requestId = '';

function mark() {
  try {
    fs.writeSync(2, `\0alcove:end:${requestId}\0`);
  } catch {
    // The tenant may have closed it.
  }
}

// What nobody caught ends the process, as on AWS, but not before its caller has been told.
function onStray(kind) {
  return (error) => {
    if (current && call) {
      const wrapped = new RuntimeError(kind, error instanceof Error ? `${error.name}: ${error.message}` : String(error));
      if (error instanceof Error) wrapped.stack = error.stack;
      send(KIND.FAILURE, current, failure(wrapped));
      mark();
    }
    process.exit(129);
  };
}

let current = 0;

async function main() {
  for (const name of Object.keys(process.env)) if (name.startsWith('ALCOVE_')) delete process.env[name];
  process.on('uncaughtException', onStray('Runtime.UncaughtException'));
  process.on('unhandledRejection', onStray('Runtime.UnhandledPromiseRejection'));
  reseed();
  send(KIND.READY, 0, Buffer.from('{"runtime": "nodejs18", "protocol": 1}'));
  const answers = {
    [KIND.LOAD]: onLoad,
    [KIND.INVOKE]: onInvoke,
    [KIND.HOOK]: onHook,
    [KIND.UNLOAD]: onUnload,
    [KIND.PING]: (payload) => [KIND.PONG, payload],
  };
  for (;;) {
    const frame = await receive();
    const act = answers[frame.kind];
    if (!act) process.exit(65);
    current = frame.id;
    const [kind, payload] = await act(frame.payload);
    send(kind, frame.id, payload);
    current = 0;
    if (frame.kind === KIND.INVOKE) mark();
  }
}

main();
