//! Where a path lies in a table that has no two paths at one place; `build.rs` compiles this, too.

/// What is done to a table's bytes, so that few paths have the same.
const MIX: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];

/// A number that is hardly ever the same for two paths. Nothing depends on it being so for paths
/// that are in no table.
pub(crate) fn hash(path: &[u8]) -> u64 {
    let mut sum = path.len() as u64;
    let mut rest = path;
    while rest.len() > 16
        && let Some((sixteen, after)) = rest.split_first_chunk::<16>()
    {
        sum = sum.rotate_left(23) ^ fold(u128::from_le_bytes(*sixteen));
        rest = after;
    }
    // The last ones overlap what was read before, rather than being read one by one.
    let last = match path.last_chunk::<16>() {
        Some(last) => u128::from_le_bytes(*last),
        None => rest
            .iter()
            .fold(0, |sum, byte| sum << 8 | u128::from(*byte)),
    };
    sum.rotate_left(23) ^ fold(last)
}

fn fold(bytes: u128) -> u64 {
    let (low, high) = (bytes as u64 ^ MIX[0], (bytes >> 64) as u64 ^ MIX[1]);
    let product = u128::from(low) * u128::from(high);
    product as u64 ^ (product >> 64) as u64
}

/// The place of a path with this hash, among `places`, a power of two. `shift` is what was found
/// to keep the paths of its bucket apart from all others.
pub(crate) fn place(hash: u64, shift: u16, places: usize) -> usize {
    let step = (hash >> 40) | 1;
    let at = (hash >> 12).wrapping_add(step.wrapping_mul(shift.into()));
    at as usize & (places - 1)
}

/// Which of `buckets`, a power of two, a path with this hash falls into.
pub(crate) fn bucket(hash: u64, buckets: usize) -> usize {
    hash as usize & (buckets - 1)
}
