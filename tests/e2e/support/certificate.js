// A self-signed certificate for 127.0.0.1, made anew for each run.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** @returns {{certificate: string, privateKey: string, remove: () => void}} paths of two PEM files */
export function selfSigned() {
  const folder = mkdtempSync(join(tmpdir(), 'valetd-e2e-tls-'));
  const certificate = join(folder, 'certificate.pem');
  const privateKey = join(folder, 'key.pem');
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-out', certificate, '-keyout', privateKey], { stdio: 'ignore' });
  return { certificate, privateKey, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
