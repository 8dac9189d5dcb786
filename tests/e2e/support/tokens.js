// Tokens, good and bad, made with nothing of the daemon's own code.

import { createHmac, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const hmac = (name, secret, text) => createHmac(name, secret).update(text).digest('base64url');
const rsa = (key, text) => sign('sha256', Buffer.from(text), key).toString('base64url');

export const now = () => Math.floor(Date.now() / 1000);

/** Makes tokens for one session, signed by HS256 unless said otherwise. */
export class Mint {
  #session;
  #secret;
  #header;

  /**
   * @param {{session_id: string, secret_file: string}} about the daemon's line
   * @param {{secret?: string, kid?: string}} [key] where the daemon was given another key
   */
  constructor(about, { secret = readFileSync(about.secret_file, 'utf8').trimEnd(), kid } = {}) {
    this.#session = about.session_id;
    this.#secret = secret;
    this.#header = { typ: 'JWT', alg: 'HS256', kid };
  }

  /** What is signed of a token that is right in all but what `claims` and `header` say. */
  #parts(claims, header) {
    const rightClaims = { session_id: this.#session, user_id: 'e2e', exp: now() + 300 };
    return `${encode({ ...this.#header, ...header })}.${encode({ ...rightClaims, ...claims })}`;
  }

  hs256(claims, header) {
    const parts = this.#parts(claims, header);
    return `${parts}.${hmac('sha256', this.#secret, parts)}`;
  }

  /** Signed by an RSA key. */
  rs256(key, header) {
    const parts = this.#parts({}, { alg: 'RS256', ...header });
    return `${parts}.${rsa(key, parts)}`;
  }

  unsigned() {
    return `${this.#parts()}.`;
  }

  algNone() {
    return `${this.#parts({}, { alg: 'none' })}.`;
  }

  /** `alg: none`, but with the signature that HS256 would have. */
  algNoneSigned() {
    return this.hs256({}, { alg: 'none' });
  }

  otherSecret() {
    const parts = this.#parts();
    return `${parts}.${hmac('sha256', 'not the secret, but as long as one should be', parts)}`;
  }

  /** The right secret with an algorithm that the key is not for. */
  hs512() {
    const parts = this.#parts({}, { alg: 'HS512' });
    return `${parts}.${hmac('sha512', this.#secret, parts)}`;
  }

  /** HS256 with the text of a public key for its secret: what a verifier falls for that lets the token choose. */
  hs256WithPublicKey(publicPem, header) {
    const parts = this.#parts({}, header);
    return `${parts}.${hmac('sha256', publicPem, parts)}`;
  }

  /** A good signature over other claims: the token of one, the wishes of another. */
  claimsSwapped() {
    const [header, , signature] = this.hs256({ role: 'spectator' }).split('.');
    const [, claims] = this.hs256({ role: 'controller', exp: now() + 86_400 }).split('.');
    return `${header}.${claims}.${signature}`;
  }
}

/** @returns {{privateKey: import('node:crypto').KeyObject, publicPem: string}} */
export function rsaKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { privateKey, publicPem: createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }) };
}
