// What a Node.js function logs, in the shapes that AWS documents: lines with time, request and level, or JSON objects of
// a level and above. It is console's methods that are replaced; what is written to process.stdout stays as it is.
'use strict';

const util = require('util');

const { store } = require('./node_store.js');

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
const METHODS = { trace: 'TRACE', debug: 'DEBUG', log: 'INFO', info: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' };
let json = false;
let least = 0;
let requestId = '';

function whose() {
  return store.hasContext() ? store.getRequestId() : requestId;
}

// An error is shown with what it has; what holds itself is shown as util.inspect does.
function shown(value) {
  if (util.types.isNativeError(value)) {
    return { errorType: value.name, errorMessage: value.message, stackTrace: String(value.stack).split('\n') };
  }
  return value;
}

function object(level, values) {
  const line = { timestamp: new Date().toISOString(), level };
  if (whose()) line.requestId = whose();
  const single = values.length === 1 && typeof values[0] === 'object' && values[0] !== null;
  line.message = single ? shown(values[0]) : util.format(...values);
  const error = values.find((value) => util.types.isNativeError(value));
  if (error && !single) Object.assign(line, shown(error));
  try {
    return JSON.stringify(line);
  } catch {
    return JSON.stringify({ ...line, message: util.inspect(values[0]) });
  }
}

function text(level, values) {
  const line = `${new Date().toISOString()}\t${whose() || 'undefined'}\t${level}\t${util.format(...values)}`;
  // One entry stays one line.
  return line.replaceAll('\n', '\r');
}

function write(level, values) {
  if (json && LEVELS.indexOf(level) < least) return;
  process.stdout.write(`${(json ? object : text)(level, values)}\n`);
}

function install(settings) {
  json = Boolean(settings) && settings.format === 'JSON';
  least = LEVELS.indexOf((settings && settings.level) || 'TRACE');
  requestId = '';
  for (const [method, level] of Object.entries(METHODS)) {
    console[method] = (...values) => write(level, values);
  }
}

function begin(id) {
  requestId = id;
}

// Write what a call failed with: the FAILURE document.
function failure(document) {
  const parsed = JSON.parse(document);
  if (json) write('ERROR', [parsed]);
  else write('ERROR', [`Invoke Error \t${JSON.stringify(parsed)}`]);
}

module.exports = { begin, failure, install };
