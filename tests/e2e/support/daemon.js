// `valetd dev` as a child: started with TLS and a page of ours, stopped by SIGTERM.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { selfSigned } from './certificate.js';

const READY_DEADLINE_MS = 90_000;
const STOP_DEADLINE_MS = 30_000;
const STATUS_DEADLINE_MS = 10_000;

function binary() {
  const root = fileURLToPath(new URL('../../../', import.meta.url));
  const candidates = [process.env.VALETD, `${root}target/release/valetd`, `${root}target/debug/valetd`].filter(Boolean);
  const found = candidates.find((path) => existsSync(path));
  if (!found) throw new Error(`no valetd binary: build it, or name it in VALETD (looked for ${candidates.join(', ')})`);
  return found;
}

export class Daemon {
  #child;
  #certificate;
  #log = [];
  #exited;

  /** The line that it printed once it was ready. */
  about = null;

  /**
   * @param {string} url what the sandboxed browser shows
   * @param {string[]} [more] further arguments
   * @param {{tls?: boolean}} [listener] without TLS for clients that cannot be told to take any certificate
   */
  static async start(url, more = [], { tls = true } = {}) {
    const daemon = new Daemon();
    daemon.#certificate = tls ? selfSigned() : null;
    const pair = tls ? ['--tls-certificate', daemon.#certificate.certificate, '--tls-private-key', daemon.#certificate.privateKey] : [];
    daemon.#child = spawn(binary(), ['dev', '--json', '--port', '0', '--url', url, ...pair, ...more], { stdio: ['ignore', 'pipe', 'pipe'] });
    daemon.#exited = new Promise((resolve) => {
      daemon.#child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    createInterface({ input: daemon.#child.stderr }).on('line', (line) => {
      daemon.#log.push(line);
      if (daemon.#log.length > 400) daemon.#log.shift();
    });
    const line = new Promise((resolve) => {
      createInterface({ input: daemon.#child.stdout }).once('line', resolve);
    });
    const first = await Promise.race([line, daemon.#exited, deadline(READY_DEADLINE_MS)]);
    if (typeof first !== 'string') {
      await daemon.stop();
      throw new Error(`valetd dev did not get ready (${JSON.stringify(first ?? 'deadline')}):\n${daemon.log}`);
    }
    daemon.about = JSON.parse(first);
    return daemon;
  }

  /** The last lines of its log. */
  get log() {
    return this.#log.join('\n');
  }

  /** The directory that is this run's alone. */
  get directory() {
    return dirname(this.about.secret_file);
  }

  /** What `valetd status` shows, asked of the control socket. */
  status() {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: join(this.directory, 'control.sock'), path: '/v1/status', signal: AbortSignal.timeout(STATUS_DEADLINE_MS) }, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('end', () => resolve(JSON.parse(Buffer.concat(chunks))));
        response.on('error', reject);
      });
      asked.on('error', reject);
      asked.end();
    });
  }

  /** Waits for what `look` gives to be something, and fails with the log where it does not get so in time. */
  async eventually(what, look, deadlineMs) {
    for (const end = Date.now() + deadlineMs; Date.now() < end;) {
      const found = await look();
      if (found) return found;
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    throw new Error(`${what}: not within ${deadlineMs} ms\n${this.log}`);
  }

  /** Asks it to drain, without waiting. */
  drain() {
    this.#child.kill('SIGTERM');
  }

  /** Stops it. @returns {Promise<{code: number | null, signal: string | null}>} how it ended */
  async stop() {
    this.drain();
    let end = await Promise.race([this.#exited, deadline(STOP_DEADLINE_MS)]);
    if (!end) {
      this.#child.kill('SIGKILL');
      end = await this.#exited;
    }
    this.#certificate?.remove();
    return end;
  }
}

/** Resolves to undefined after `ms`, and keeps nothing running. */
function deadline(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}
