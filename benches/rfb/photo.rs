//! Something like a photograph: soft areas with some structure, hard edges, and grain.

/// Soft in blocks of so many pixels, each as strong as that.
const OCTAVES: [(u32, i32); 4] = [(256, 80), (96, 50), (32, 24), (10, 12)];
/// Discs with an edge.
const DISCS: u32 = 60;

/// One, without its grain: blue, green, red and nothing.
pub(crate) struct Photo(Vec<u8>);

impl Photo {
    pub(crate) fn new(width: u16, height: u16) -> Self {
        let (width, height) = (u32::from(width), u32::from(height));
        let discs: Vec<Disc> = (0..DISCS).map(|number| Disc::new(number, width, height)).collect();
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let disc = discs.iter().find(|disc| disc.covers(x, y)).map_or(0, |disc| disc.adds);
                for part in 0..3 {
                    let octaves = OCTAVES.iter().map(|(cell, strength)| soft(x, y, *cell, part) * strength);
                    let soft = octaves.sum::<i32>() / 256;
                    // Flatter and of another colour within.
                    let soft = if disc == 0 { soft } else { soft / 3 };
                    pixels.push(byte(128 + soft + disc * (1 + i32::from(part == 1))));
                }
                pixels.push(0);
            }
        }
        Self(pixels)
    }

    /// It with one of many grains.
    pub(crate) fn grainy(&self, number: u32) -> Vec<u8> {
        let mut at = number.wrapping_mul(0x0100_0193);
        let grain = |pixel: &[u8]| {
            at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = i32::from((at >> 24).to_le_bytes()[0] % 9) - 4;
            let part = |index: usize| byte(i32::from(pixel.get(index).copied().unwrap_or_default()) + grain);
            [part(0), part(1), part(2), 0]
        };
        self.0.chunks_exact(4).flat_map(grain).collect()
    }
}

/// Noise between the corners of cells, from -256 to 256.
fn soft(x: u32, y: u32, cell: u32, part: u32) -> i32 {
    let (column, row) = (x / cell, y / cell);
    let share = |at: u32| i32::try_from(at % cell * 256 / cell).unwrap_or_default();
    let corner =
        |dx: u32, dy: u32| i32::from(hash(column + dx, row + dy, cell * 4 + part).to_le_bytes()[0]) * 2 - 255;
    let between = |one: i32, other: i32, share: i32| one + (other - one) * share / 256;
    let above = between(corner(0, 0), corner(1, 0), share(x));
    between(above, between(corner(0, 1), corner(1, 1), share(x)), share(y))
}

struct Disc {
    x: u32,
    y: u32,
    radius: u32,
    adds: i32,
}

impl Disc {
    fn new(number: u32, width: u32, height: u32) -> Self {
        Self {
            x: hash(number, 1, 0) % width,
            y: hash(number, 2, 0) % height,
            radius: 10 + hash(number, 3, 0) % 70,
            adds: i32::from(hash(number, 4, 0).to_le_bytes()[0]) - 128,
        }
    }

    fn covers(&self, x: u32, y: u32) -> bool {
        x.abs_diff(self.x).pow(2) + y.abs_diff(self.y).pow(2) < self.radius.pow(2)
    }
}

fn hash(a: u32, b: u32, c: u32) -> u32 {
    let mixed = (a.wrapping_mul(0x9e37_79b9) ^ b.wrapping_mul(0x85eb_ca6b) ^ c.wrapping_mul(0xc2b2_ae35))
        .wrapping_mul(0x27d4_eb2f);
    (mixed ^ mixed >> 15).wrapping_mul(0x2545_f491) >> 7
}

fn byte(value: i32) -> u8 {
    u8::try_from(value.clamp(0, 255)).unwrap_or_default()
}
