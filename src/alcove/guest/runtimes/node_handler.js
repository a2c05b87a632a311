// From a handler's name to its function, and from what was thrown to the error that a caller sees.
//
// Names are resolved and errors are shaped as AWS's runtime interface client for Node.js does it
// (UserFunction.js and Errors.js).
'use strict';

const fs = require('fs');
const Module = require('module');
const path = require('path');
const { pathToFileURL } = require('url');

const SUFFIXES = ['', '.js', '.mjs', '.cjs'];
// require() was given an ES module: before Node.js 22, or one that awaits at its top level.
const ES_MODULE = new Set(['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE']);
const NOT_FOUND = new Set(['MODULE_NOT_FOUND', 'ERR_MODULE_NOT_FOUND']);
const MAX_MESSAGE = 65536;
const MAX_FRAMES = 64;

class RuntimeError extends Error {
  constructor(kind, message, cause) {
    super(message);
    this.name = kind;
    const frames = cause ? cause.stack : String(this.stack).replace(/^[^\n]*\n?/, '');
    this.stack = `${kind}: ${message}\n${frames}`;
  }
}

function isError(value) {
  return (
    value !== null &&
    typeof value === 'object' &&
    ['name', 'message', 'stack'].every((field) => typeof value[field] === 'string')
  );
}

// Return the payload of a FAILURE. What a tenant throws may throw itself when it is looked at.
function failure(error) {
  let document;
  try {
    if (isError(error)) {
      const trace = error.stack.split('\n').filter((line) => line && !line.includes(__dirname));
      document = { errorType: error.name, errorMessage: error.message, trace };
    } else {
      document = { errorType: typeof error, errorMessage: String(error), trace: [] };
    }
  } catch {
    const errorMessage = 'the error cannot be read';
    document = { errorType: 'Runtime.UnknownReason', errorMessage, trace: [] };
  }
  document.errorMessage = document.errorMessage.slice(0, MAX_MESSAGE);
  document.trace = document.trace.slice(0, MAX_FRAMES).map((line) => line.slice(0, MAX_MESSAGE));
  return Buffer.from(JSON.stringify(document));
}

function locate(root, name) {
  const base = path.resolve(root, name);
  for (const suffix of SUFFIXES) {
    const stat = fs.statSync(base + suffix, { throwIfNoEntry: false });
    if (stat && stat.isFile()) return base + suffix;
  }
  // A folder with an index.js, or a module of a layer's.
  try {
    return require.resolve(base);
  } catch {
    return require.resolve(name, { paths: [root] });
  }
}

async function importModule(root, name) {
  try {
    const file = locate(root, name);
    if (file.endsWith('.mjs')) return await import(pathToFileURL(file));
    try {
      return require(file);
    } catch (error) {
      if (!error || !ES_MODULE.has(error.code)) throw error;
      return await import(pathToFileURL(file));
    }
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new RuntimeError('Runtime.UserCodeSyntaxError', `SyntaxError: ${error.message}`, error);
    }
    if (error && NOT_FOUND.has(error.code)) {
      throw new RuntimeError('Runtime.ImportModuleError', `Error: ${error.message}`, error);
    }
    throw error;
  }
}

async function findHandler(name, root, importer = importModule) {
  if (name.includes('..')) {
    const hint = 'Use absolute paths when specifying root directories in handler names.';
    const message = `'${name}' is not a valid handler name. ${hint}`;
    throw new RuntimeError('Runtime.MalformedHandlerName', message);
  }
  const match = /^((?:.*\/)?[^./]+)\.([^/]+)$/.exec(name);
  if (!match) throw new RuntimeError('Runtime.MalformedHandlerName', 'Bad handler');
  const module = await importer(root, match[1]);
  const find = (from) => match[2].split('.').reduce((value, part) => value?.[part], from);
  const found = find(module) ?? find(module?.default);
  if (found === undefined || found === null) {
    throw new RuntimeError('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  }
  if (typeof found !== 'function') {
    throw new RuntimeError('Runtime.HandlerNotFound', `${name} is not a function`);
  }
  return found;
}

// Load the sample handler of a rehearsal. Not through require(), which remembers for ever whether
// there was a package.json beside it: the next package there may be one of ES modules.
async function rehearseHandler(name, root) {
  await import('data:text/javascript,');
  return findHandler(name, root, (folder, file) => {
    const filename = path.join(folder, `${file}.js`);
    const sample = new Module(filename);
    sample.filename = filename;
    sample.paths = Module._nodeModulePaths(folder);
    sample._compile(fs.readFileSync(filename, 'utf8'), filename);
    return sample.exports;
  });
}

module.exports = { RuntimeError, failure, findHandler, isError, rehearseHandler };
