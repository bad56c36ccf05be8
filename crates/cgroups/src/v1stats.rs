//! v1 controller statistics through cgroups-rs.
