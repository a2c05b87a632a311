// The Node.js runtime's end of the invocation channel (wire/frame.py): frames on one descriptor.
//
// Waiting for a frame is one read on the thread pool, so that timers and promises of the tenant's
// run on. What follows the first bytes of a frame is there already or about to be: it is read at
// once, without a turn of the event loop for every page that a port hands out.
'use strict';

const fs = require('fs');

const KIND = {
  READY: 16,
  LOAD: 17,
  LOADED: 18,
  INVOKE: 19,
  RESULT: 20,
  FAILURE: 21,
  HOOK: 22,
  DONE: 23,
  UNLOAD: 24,
  PING: 25,
  PONG: 26,
  STREAM: 27,
  CHUNK: 28,
  END: 29,
};
const HEADER = 9;
const MAX_PAYLOAD = 6 * 1024 * 1024 + 64 * 1024;
const CHUNK = 64 * 1024;
// How soon a port is looked at again when the host's daemon is away.
const AWAY_MS = 20;
const cell = new Int32Array(new SharedArrayBuffer(4));

function pause(milliseconds) {
  Atomics.wait(cell, 0, 0, milliseconds);
}

class Channel {
  constructor(fd) {
    this.fd = fd;
    this.isPort = fs.fstatSync(fd).isCharacterDevice();
    // Whether a thread of the pool's waits in a read, which nothing but the host can end.
    this.waiting = false;
    this.chunk = Buffer.allocUnsafeSlow(CHUNK);
    this.have = 0;
  }

  send(kind, id, payload) {
    const frame = Buffer.allocUnsafe(HEADER + payload.length);
    frame.writeUInt32BE(payload.length, 0);
    frame.writeUInt8(kind, 4);
    frame.writeUInt32BE(id, 5);
    payload.copy(frame, HEADER);
    let written = 0;
    while (written < frame.length) {
      try {
        written += fs.writeSync(this.fd, frame, written);
      } catch (error) {
        if (error.code !== 'EAGAIN') throw error;
        pause(1);
      }
    }
  }

  // Resolve with the next frame, or with null when the host has closed the socket.
  async receive() {
    for (;;) {
      while (this.have < HEADER) {
        const count = await this.wait();
        if (count) this.have += count;
        else if (!this.isPort) return null;
        // The next host begins with a frame of its own.
        else this.have = 0;
      }
      const length = this.chunk.readUInt32BE(0);
      const kind = this.chunk.readUInt8(4);
      const id = this.chunk.readUInt32BE(5);
      if (length > MAX_PAYLOAD) throw new Error(`frame of ${length} bytes is over the limit`);
      const payload = Buffer.allocUnsafeSlow(length);
      let filled = this.chunk.copy(payload, 0, HEADER, this.have);
      const used = HEADER + filled;
      this.chunk.copyWithin(0, used, this.have);
      this.have -= used;
      while (filled < length) {
        const count = this.readNow(payload, filled);
        if (count === 0) break;
        filled += count;
      }
      if (filled === length) return { kind, id, payload };
      if (!this.isPort) return null;
    }
  }

  wait() {
    return new Promise((resolve, reject) => {
      const attempt = () => {
        this.waiting = true;
        fs.read(this.fd, this.chunk, this.have, CHUNK - this.have, null, (error, count) => {
          this.waiting = false;
          if (error && error.code !== 'EAGAIN') reject(error);
          else if (error) setTimeout(attempt, AWAY_MS);
          else if (count === 0 && this.isPort) setTimeout(resolve, AWAY_MS, 0);
          else resolve(count);
        });
      };
      attempt();
    });
  }

  readNow(buffer, offset) {
    for (;;) {
      try {
        return fs.readSync(this.fd, buffer, offset, buffer.length - offset, null);
      } catch (error) {
        if (error.code !== 'EAGAIN') throw error;
        pause(1);
      }
    }
  }
}

module.exports = { Channel, KIND };
