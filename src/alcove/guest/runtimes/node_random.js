// Clone safety: every generator whose state a clone of a saved machine would share.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const { syncBuiltinESMExports } = require('module');

// Draws of six bytes that crypto.randomInt keeps ahead (lib/internal/crypto/random.js).
const INTEGERS_AHEAD = 1024;
const state = new Int32Array(4);
const nativeInt = crypto.randomInt;
const nativeUUID = crypto.randomUUID;
let integersDrawn = false;

// sfc32: 128 bits of state. V8's own generator cannot be seeded anew.
function next() {
  const sum = (state[0] + state[1] + state[3]) | 0;
  state[3] = (state[3] + 1) | 0;
  state[0] = state[1] ^ (state[1] >>> 9);
  state[1] = (state[2] + (state[2] << 3)) | 0;
  state[2] = (((state[2] << 21) | (state[2] >>> 11)) + sum) | 0;
  return sum;
}

function random() {
  return ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
}

// Without the bytes that Node keeps ahead, which clones would share.
function randomUUID(options) {
  return nativeUUID({ ...options, disableEntropyCache: true });
}

function randomInt(...limits) {
  integersDrawn = true;
  return nativeInt(...limits);
}

function define(target, name, value) {
  Object.defineProperty(target, name, { value, configurable: true, writable: true });
}

function install() {
  define(Math, 'random', random);
  crypto.randomUUID = randomUUID;
  crypto.randomInt = randomInt;
  define(Object.getPrototypeOf(crypto.webcrypto), 'randomUUID', () => randomUUID());
  // What ES modules import by name from 'crypto'.
  syncBuiltinESMExports();
  reseed();
}

// Use OpenSSL's generator. In the hook before a snapshot the host has moved the clock years ahead:
// a restored clone then finds that it was last seeded in the future, and seeds it anew.
function useOpenssl() {
  crypto.randomBytes(1);
}

function reseed() {
  const seed = fs.openSync('/dev/urandom', 'r');
  try {
    fs.readSync(seed, new Uint8Array(state.buffer), 0, 16, null);
  } finally {
    fs.closeSync(seed);
  }
  useOpenssl();
  if (integersDrawn) for (let drawn = 0; drawn < INTEGERS_AHEAD; drawn++) nativeInt(2);
}

module.exports = { install, reseed, useOpenssl };
