//! drydock-network.
