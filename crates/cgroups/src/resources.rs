//! The limits that have several numbers.

use crate::items::word;
use crate::limits::UNLIMITED;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Microseconds of processor time in each period: 50000 of 100000 is half a processor. A part that is `None` stays as
/// it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuMax {
    /// Microseconds, at least 1000; [`UNLIMITED`] for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_us: Option<u64>,
    /// Microseconds, 1000 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_us: Option<u64>,
}

impl CpuMax {
    /// Both parts.
    pub fn new(quota_us: u64, period_us: u64) -> Self {
        Self { quota_us: Some(quota_us), period_us: Some(period_us) }
    }

    /// How many processors that is; `None` without a limit, or when a part is not known.
    pub fn processors(&self) -> Option<f64> {
        let quota = self.quota_us.filter(|q| *q != UNLIMITED)?;
        let period = self.period_us.filter(|p| *p > 0)?;
        Some(quota as f64 / period as f64)
    }
}

/// As cpu.max is written: `50000 100000`, `50000` (the period stays), `max 100000`.
impl fmt::Display for CpuMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(self.quota_us.unwrap_or(UNLIMITED)))?;
        self.period_us.map_or(Ok(()), |period| write!(f, " {period}"))
    }
}

/// Limits of one block device; what is `None` stays as it is, [`UNLIMITED`] removes a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoMax {
    /// `major:minor` of the whole disk (see [`crate::device::whole_disk`]).
    pub device: String,
    /// Bytes read a second.
    pub rbps: Option<u64>,
    /// Bytes written a second.
    pub wbps: Option<u64>,
    /// Reads a second.
    pub riops: Option<u64>,
    /// Writes a second.
    pub wiops: Option<u64>,
}

/// Weights for one block device, 10 to 1000 as in v1's blkio.weight_device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceWeight {
    /// `major:minor`.
    pub device: String,
    /// The cgroup's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
    /// Of its own processes against its child cgroups. v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u64>,
}

/// What a cgroup may hold of one RDMA device; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rdma {
    /// hca_handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// hca_object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}
