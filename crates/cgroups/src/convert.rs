//! v1 and v2 numbers for the same thing.

use crate::UNLIMITED;

/// v1 `cpu.shares` that gives the same share of the processor as v2 `cpu.weight`: the scheduler itself turns a weight
/// into `weight × 1024 / 100`. Weights 1 to 10000 become shares 10 to 102400.
pub fn shares_from_weight(weight: u64) -> u64 {
    let weight = weight.clamp(1, 10_000);
    ((weight * 1024 + 50) / 100).max(2)
}

/// v2 `cpu.weight` for v1 `cpu.shares` as an OCI configuration gives them: 2 → 1, 1024 → 100, 262144 → 10000, and
/// between them the quadratic curve through these points that OCI runtimes agreed on, so that both defaults meet and
/// the whole range is used.
pub fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let bits = (shares as f64).log2();
            let exponent = (bits * bits + 125.0 * bits) / 612.0 - 7.0 / 34.0;
            // Between 1 and 10000 by the choice of the curve.
            (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}

/// v1 `memory.memsw.limit_in_bytes`: memory and swap together, from the two apart.
pub fn memsw_from_swap(memory: u64, swap: u64) -> u64 {
    if memory == UNLIMITED || swap == UNLIMITED { UNLIMITED } else { memory.saturating_add(swap) }
}

/// Swap alone, from v1's sum; `None` when the sum is smaller than the memory limit (the kernel refuses that too).
pub fn swap_from_memsw(memory: u64, memsw: u64) -> Option<u64> {
    if memsw == UNLIMITED { Some(UNLIMITED) } else { memsw.checked_sub(memory) }
}

/// v1 `blkio.weight` (10 to 1000) for v2 `io.weight` (1 to 10000, default 100).
pub fn blkio_weight_from_io(weight: u64) -> u64 {
    let weight = weight.clamp(1, 10_000);
    10 + (weight - 1) * 990 / 9999
}

/// v2 `io.weight` for v1 `blkio.weight` (10 to 1000), both ends on both ends.
pub fn io_weight_from_blkio(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_shares_agree_on_the_defaults_and_stay_in_range() {
        assert_eq!(shares_from_weight(100), 1024);
        assert_eq!(weight_from_shares(1024), 100);
        assert_eq!((weight_from_shares(2), weight_from_shares(262_144)), (1, 10_000));
        let mut last = 0;
        for weight in 1..=10_000 {
            let shares = shares_from_weight(weight);
            assert!((2..=262_144).contains(&shares) && shares > last, "{weight} -> {shares}");
            last = shares;
        }
        let mut last = 0;
        for shares in 2..=262_144 {
            let weight = weight_from_shares(shares);
            assert!((1..=10_000).contains(&weight) && weight >= last, "{shares} -> {weight}");
            last = weight;
        }
    }

    #[test]
    fn swap_is_the_difference() {
        for memory in [4096, 1 << 20, 100 << 20, 1 << 40] {
            for swap in [0, 4096, 50 << 20, UNLIMITED] {
                assert_eq!(swap_from_memsw(memory, memsw_from_swap(memory, swap)), Some(swap));
            }
        }
        assert_eq!(swap_from_memsw(2, 1), None);
        assert_eq!((blkio_weight_from_io(1), blkio_weight_from_io(10_000)), (10, 1000));
        assert_eq!((io_weight_from_blkio(10), io_weight_from_blkio(1000)), (1, 10_000));
    }
}
