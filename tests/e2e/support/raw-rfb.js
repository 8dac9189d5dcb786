// RFB spoken by hand from inside a page, past noVNC and all that it would hold back.

/**
 * Runs in the page. Shakes hands as RFB 3.8, sends `messages` byte for byte, cut into pieces of `cut` bytes, then asks
 * for a whole picture and waits for its first bytes: by then the server has read everything before.
 * @param {{url: string, messages: number[][], cut: number}} what
 * @returns {Promise<{opened: boolean, answered: boolean, code: number | null}>}
 */
export function speakRawRfb({ url, messages, cut }) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, ['binary']);
    socket.binaryType = 'arraybuffer';
    const result = { opened: false, answered: false, code: null };
    let received = new Uint8Array(0);
    let step = 'version';

    const finish = () => {
      clearTimeout(timer);
      socket.close();
      resolve(result);
    };
    const timer = setTimeout(finish, 15_000);
    const take = (count) => {
      if (received.length < count) return null;
      const taken = received.slice(0, count);
      received = received.slice(count);
      return taken;
    };
    const steps = {
      version: () => take(12) && (socket.send(new TextEncoder().encode('RFB 003.008\n')), 'types'),
      types: () => received.length > 0 && take(1 + received[0]) && (socket.send(new Uint8Array([1])), 'result'),
      result: () => take(4) && (socket.send(new Uint8Array([1])), 'init'),
      init: () => {
        if (received.length < 24) return null;
        const nameLength = new DataView(received.buffer, received.byteOffset).getUint32(20);
        const init = take(24 + nameLength);
        if (!init) return null;
        const bytes = Uint8Array.from(messages.flat());
        for (let at = 0; at < bytes.length; at += cut) socket.send(bytes.slice(at, at + cut));
        socket.send(new Uint8Array([3, 0, 0, 0, 0, 0, 0, 1, 0, 1]));
        return 'update';
      },
      update: () => {
        // Other messages may come first; an update of one pixel has at least a header of 16 bytes.
        result.answered = received.length >= 16;
        return result.answered ? 'done' : null;
      },
    };
    socket.onopen = () => { result.opened = true; };
    socket.onmessage = (event) => {
      const more = new Uint8Array(event.data);
      const joined = new Uint8Array(received.length + more.length);
      joined.set(received);
      joined.set(more, received.length);
      received = joined;
      for (let next = steps[step]?.(); next; next = steps[step]?.()) step = next;
      if (step === 'done') finish();
    };
    socket.onclose = (event) => {
      result.code = event.code;
      finish();
    };
  });
}

const u16 = (value) => [value >> 8, value & 255];
const u32 = (value) => [value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255];
const keyEvent = (down, keysym) => [4, down, 0, 0, ...u32(keysym)];
const qemuKeyEvent = (down, keysym, code) => [255, 0, ...u16(down), ...u32(keysym), ...u32(code)];
const pointerEvent = (mask, { x, y }) => [5, mask, ...u16(Math.round(x)), ...u16(Math.round(y))];
const cutText = (text) => [6, 0, 0, 0, ...u32(text.length), ...new TextEncoder().encode(text)];
const setDesktopSize = (width, height) => [251, 0, ...u16(width), ...u16(height), 1, 0, ...u32(0), ...u16(0), ...u16(0), ...u16(width), ...u16(height), ...u32(0)];

/** A click at `point`, the letter x typed, both as RFC 6143 has them. */
export function clickAndType(point) {
  return [pointerEvent(0, point), pointerEvent(1, point), pointerEvent(0, point), keyEvent(1, 0x78), keyEvent(0, 0x78)];
}

/** Everything else that could change something: extensions, clipboard, size, power. */
export function everyOtherInput(point) {
  return [
    // SetEncodings: ExtendedMouseButtons, QEMU keys, ExtendedDesktopSize, xvp and Tight, so that a server takes what follows.
    [2, 0, ...u16(5), ...u32(-316 >>> 0), ...u32(-258 >>> 0), ...u32(-308 >>> 0), ...u32(-309 >>> 0), ...u32(7)],
    qemuKeyEvent(1, 0x79, 0x15),
    qemuKeyEvent(0, 0x79, 0x15),
    pointerEvent(8, point),
    pointerEvent(0, point),
    cutText('from a spectator'),
    setDesktopSize(640, 480),
    [250, 0, 1, 2],
  ];
}
