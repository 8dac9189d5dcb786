//! noVNC, as the daemon serves it, in Chromium.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::chromium::Chromium;
use super::painter::Painter;
use super::stage::{PATIENCE, Picture, Stage};
use crate::support::wait_for;

/// Connects noVNC, with `ENCODINGS` in the place of those that it lists for pixels, and counts what it decodes. With `ONCE`, the
/// server is asked for one picture and no more.
const CONNECT: &str = r"(async () => {
  const { default: RFB } = await import('/novnc/core/rfb.js');
  const place = document.body.appendChild(document.createElement('div'));
  place.id = 'judge';
  const socket = new WebSocket(`ws://${location.host}/sessions/s1/vnc`, ['binary', 'jwt.TOKEN']);
  const send = socket.send.bind(socket);
  const listed = (bytes) => {
    const view = new DataView(bytes.buffer);
    const all = Array.from({ length: view.getUint16(2) }, (_, index) => view.getInt32(4 + 4 * index));
    const others = all.filter((number) => (number < 0 && number !== -260 && (number < -32 || number > -23)) || number > 0xffff);
    const list = ENCODINGS.concat(others.filter((number) => !ONCE || number !== -313));
    const message = new DataView(new ArrayBuffer(4 + 4 * list.length));
    message.setUint8(0, 2);
    message.setUint16(2, list.length);
    list.forEach((number, index) => message.setInt32(4 + 4 * index, number));
    return message.buffer;
  };
  let requests = 0;
  socket.send = (data) => {
    const bytes = Uint8Array.from(data);
    if (bytes[0] === 3 && bytes.length === 10 && ++requests > 1 && ONCE) return;
    send(bytes[0] === 2 && bytes.length > 4 ? listed(bytes) : bytes);
  };
  const rfb = new RFB(place, socket);
  window.judged = { raw: 0, hextile: 0, zrle: 0, tight: 0, jpeg: 0 };
  const count = (decoder, method, kind) => {
    const decode = decoder[method].bind(decoder);
    decoder[method] = (...how) => {
      window.judged[kind] += 1;
      return decode(...how);
    };
  };
  for (const [number, kind] of [[0, 'raw'], [5, 'hextile'], [16, 'zrle'], [7, 'tight']]) count(rfb._decoders[number], 'decodeRect', kind);
  count(rfb._decoders[7], '_jpegRect', 'jpeg');
  await new Promise((resolve, reject) => {
    rfb.addEventListener('connect', resolve);
    rfb.addEventListener('disconnect', () => reject(new Error('disconnected')));
  });
  return true;
})()";

/// The canvas that noVNC draws on, as red, green and blue.
const CANVAS: &str = r"(() => {
  const canvas = document.querySelector('#judge canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const parts = [];
  for (let at = 0; at < data.length; at += 4) parts.push(String.fromCharCode(data[at], data[at + 1], data[at + 2]));
  return btoa(parts.join(''));
})()";

struct Page<'a> {
    chromium: &'a mut Chromium,
    page: String,
}

impl<'a> Page<'a> {
    fn open(chromium: &'a mut Chromium, stage: &Stage, encodings: &[i32], once: bool) -> Self {
        let page = chromium.automation.page(&format!("http://{}/", stage.gateway));
        let script =
            CONNECT.replace("TOKEN", &stage.token).replace("ENCODINGS", &json!(encodings).to_string());
        let script = script.replace("ONCE", &once.to_string());
        let params = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let answer = chromium.automation.result(Some(&page), "Runtime.evaluate", params);
        assert_eq!(answer["result"]["value"], true, "{answer}");
        Self { chromium, page }
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        self.chromium.automation.evaluate(&self.page, expression)
    }

    fn picture(&mut self) -> Picture {
        let bytes = STANDARD.decode(self.evaluate(CANVAS).as_str().unwrap()).unwrap();
        bytes.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
    }

    /// What noVNC decoded, in order.
    fn kinds(&mut self) -> Vec<String> {
        let judged = self.evaluate("window.judged");
        let counts = judged.as_object().unwrap().iter().filter(|(_, count)| **count != json!(0));
        let mut kinds: Vec<String> = counts.map(|(kind, _)| kind.clone()).collect();
        kinds.sort();
        kinds
    }

    fn close(mut self) {
        self.evaluate("window.close()");
    }
}

#[test]
fn novnc_shows_the_very_pixels_in_every_encoding() {
    let (stage, mut chromium) = (Stage::start(), Chromium::start());
    let cases: [(&[i32], &[&str]); 5] = [
        (&[0], &["raw"]),
        (&[5, 0], &["hextile"]),
        (&[16, 0], &["zrle"]),
        (&[7, 0], &["tight"]),
        // And what only moved as a move.
        (&[1, 7, 0, -26], &["jpeg", "tight"]),
    ];
    for (encodings, expected) in cases {
        let mut page = Page::open(&mut chromium, &stage, encodings, false);
        let painter = stage.draw();
        stage.agrees_on_all(&painter, &format!("noVNC with {encodings:?}"), || page.picture());
        assert_eq!(page.kinds(), expected, "{encodings:?}");
        page.close();
    }
}

/// Peak signal to noise, in decibels.
fn psnr(seen: &Picture, truth: &Picture) -> f64 {
    let pairs = seen.iter().flatten().zip(truth.iter().flatten());
    let squares: f64 = pairs.map(|(seen, truth)| (f64::from(*seen) - f64::from(*truth)).powi(2)).sum();
    10.0 * (255.0_f64.powi(2) / (squares / f64::from(u32::try_from(truth.len() * 3).unwrap()))).log10()
}

#[test]
fn what_comes_with_loss_is_a_good_likeness_before_it_is_refreshed() {
    let (stage, mut chromium) = (Stage::start(), Chromium::start());
    Painter::new(&stage.display).photograph();
    let truth = stage.truth();
    let mut page = Page::open(&mut chromium, &stage, &[7, 0, -26], true);
    let mut best = 0.0_f64;
    let seen = wait_for("a picture of 35 dB", PATIENCE, || {
        let seen = page.picture();
        best = psnr(&seen, &truth);
        (seen.len() == truth.len() && best >= 35.0).then_some(seen)
    });
    assert!(seen != truth, "with loss");
    assert_eq!(page.kinds(), ["jpeg", "tight"]);
    page.close();
}
