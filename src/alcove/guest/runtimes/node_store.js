// What belongs to the request that runs: its id and its trace. The global `awslambda.InvokeStore`, under the names and
// keys that AWS's runtime gives it, so that AWS's SDK and its libraries find a request's trace where requests run side
// by side and the environment can't say it.
'use strict';

const KEYS = {
  REQUEST_ID: Symbol.for('_AWS_LAMBDA_REQUEST_ID'),
  X_RAY_TRACE_ID: Symbol.for('_AWS_LAMBDA_X_RAY_TRACE_ID'),
  TENANT_ID: Symbol.for('_AWS_LAMBDA_TENANT_ID'),
};
let storage = null; // once requests run side by side
let alone; // the context of the one that runs alone

function contextOf(call) {
  return { [KEYS.REQUEST_ID]: call.request_id, [KEYS.X_RAY_TRACE_ID]: call.trace_id || undefined };
}

const store = {
  isProtectedKey: (key) => Object.values(KEYS).includes(key),
  getContext: () => (storage && storage.getStore()) || alone,
  hasContext: () => store.getContext() !== undefined,
  get: (key) => store.getContext()?.[key],
  set(key, value) {
    if (store.isProtectedKey(key)) throw new Error(`Cannot modify protected Lambda context field: ${String(key)}`);
    const context = store.getContext();
    if (!context) throw new Error('No context available');
    context[key] = value;
  },
  run(context, work) {
    if (storage) return storage.run(context, work);
    alone = context;
    return work();
  },
  getRequestId: () => store.get(KEYS.REQUEST_ID) ?? '-',
  getXRayTraceId: () => store.get(KEYS.X_RAY_TRACE_ID),
  getTenantId: () => store.get(KEYS.TENANT_ID),
};

function begin(call) {
  alone = contextOf(call);
}

function forget() {
  alone = undefined;
}

// What is printed by a request is said to be of it: the host cuts output by request (functions/request_log.py).
function tell(stream) {
  const plain = stream.write.bind(stream);
  stream.write = (chunk, encoding, done) => {
    const context = storage.getStore();
    if (!context || !(typeof chunk === 'string' || chunk instanceof Uint8Array)) return plain(chunk, encoding, done);
    const text = typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8') : chunk;
    const parts = [Buffer.from(`\0alcove:of:${context[KEYS.REQUEST_ID]}\0`), text, Buffer.from('\0alcove:of:\0')];
    return plain(Buffer.concat(parts), typeof encoding === 'function' ? encoding : done);
  };
}

// Run what is that request's, beside others. Following a request through promises costs each of them a little.
function within(call, work) {
  if (!storage) {
    storage = new (require('async_hooks').AsyncLocalStorage)();
    for (const stream of [process.stdout, process.stderr]) tell(stream);
  }
  alone = undefined;
  return storage.run(contextOf(call), work);
}

module.exports = { begin, forget, store, within };
