//! Bytes in any chunking, for the oracles that the fuzz targets and the tests share.

/// `bytes` in pieces: the cuts are lengths, what is behind the last one is a piece too.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    cuts.iter().copied().chain([usize::MAX]).map(move |cut| {
        let (piece, behind) = rest.split_at(cut.min(rest.len()));
        rest = behind;
        piece
    })
}

/// A fuzz input: a number of cuts (modulo 16), the cuts, and the bytes that the property is about.
pub fn split_input(data: &[u8]) -> (Vec<usize>, &[u8]) {
    let [count, rest @ ..] = data else { return (Vec::new(), data) };
    let (cuts, bytes) = rest.split_at(usize::from(count % 16).min(rest.len()));
    (cuts.iter().copied().map(usize::from).collect(), bytes)
}
