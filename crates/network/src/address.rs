//! Addresses: `10.0.0.2/24` on an interface, `10.0.0.0/24` as a subnet, link-layer addresses. IPv4 and IPv6.

use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: an address with no host bits, and a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// An address of an interface with the prefix length of its subnet: `10.0.0.2/24`, `fd00::2/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceAddress {
    address: IpAddr,
    prefix: u8,
}

/// An Ethernet address: unicast, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn from_bits(family: IpAddr, bits: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(bits & 0xffff_ffff).unwrap_or(0))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

/// The number of bits of an address of this family: 32 or 128.
pub fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn host_mask(family: IpAddr, prefix: u8) -> u128 {
    let host = u32::from(width(family).saturating_sub(prefix));
    1u128.checked_shl(host).map_or(u128::MAX, |n| n - 1)
}

/// The bytes of an address in network order.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address that 4 or 16 bytes in network order are.
pub fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn split(object: &str, text: &str, example: &str) -> Result<(IpAddr, u8)> {
    let bad = |why: &str| {
        let shown = text::shorten(&text::escape(text), 60);
        Error::bad_input(object, format!("'{shown}' {why} (allowed: such as {example})"))
    };
    let (address, prefix) = text.split_once('/').ok_or_else(|| bad("has no prefix length"))?;
    let address: IpAddr = address.parse().map_err(|_| bad("is not an IP address with a prefix length"))?;
    let digits = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix: u8 = prefix.parse().ok().filter(|_| digits).ok_or_else(|| bad("has a bad prefix length"))?;
    if prefix > width(address) {
        return Err(bad(&format!("has a prefix longer than {} bits", width(address))));
    }
    Ok((address, prefix))
}

impl Subnet {
    /// Parses `10.0.0.0/24`. Host bits must be zero, and there must be room for a host and a gateway.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] that names `object` and what is allowed.
    pub fn parse_as(object: &str, text: &str) -> Result<Self> {
        let (address, prefix) = split(object, text, "10.0.0.0/24")?;
        let subnet = Self { address, prefix };
        if bits(address) & host_mask(address, prefix) != 0 {
            let right = InterfaceAddress { address, prefix }.subnet();
            return Err(Error::bad_input(
                object,
                format!("'{text}' has host bits set (the subnet is {right})"),
            ));
        }
        if prefix == 0 || prefix > width(address) - 1 {
            let allowed = width(address) - 1;
            return Err(Error::bad_input(
                object,
                format!("'{text}' is not usable as a subnet (allowed: a prefix of 1 to {allowed})"),
            ));
        }
        check_unicast(object, address, text)?;
        Ok(subnet)
    }

    /// [`Subnet::parse_as`] with a general name in the error.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_as("subnet", text)
    }

    /// The network address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies within.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && bits(address) & !host_mask(self.address, self.prefix) == bits(self.address)
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Subnet) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The number of addresses for hosts, without network and broadcast address (IPv4, prefix below 31).
    pub fn hosts(self) -> u128 {
        let all = host_mask(self.address, self.prefix).saturating_add(1);
        if self.address.is_ipv4() && self.prefix < 31 { all.saturating_sub(2) } else { all }
    }

    /// The `n`th host address, from 0; `None` past the end.
    pub fn host(self, n: u128) -> Option<IpAddr> {
        let first = if self.prefix < width(self.address) - 1 { 1 } else { 0 };
        (n < self.hosts()).then(|| from_bits(self.address, bits(self.address) + n + first))
    }

    /// Which host number an address is.
    pub fn host_number(self, address: IpAddr) -> Option<u128> {
        let first = if self.prefix < width(self.address) - 1 { 1 } else { 0 };
        let n = (bits(address)).checked_sub(bits(self.address))?.checked_sub(first)?;
        (self.contains(address) && n < self.hosts()).then_some(n)
    }

    /// The broadcast address of an IPv4 subnet with a prefix below 31.
    pub fn broadcast(self) -> Option<IpAddr> {
        (self.address.is_ipv4() && self.prefix < 31)
            .then(|| from_bits(self.address, bits(self.address) | host_mask(self.address, self.prefix)))
    }

    /// The mask as bytes in network order.
    pub fn mask(self) -> Vec<u8> {
        octets(from_bits(self.address, !host_mask(self.address, self.prefix)))
    }

    /// A subnet from its parts; host bits are cleared.
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        let prefix = prefix.min(width(address));
        Self { address: from_bits(address, bits(address) & !host_mask(address, prefix)), prefix }
    }

    /// An address of this subnet with its prefix length.
    pub fn with(self, address: IpAddr) -> InterfaceAddress {
        InterfaceAddress { address, prefix: self.prefix }
    }
}

impl InterfaceAddress {
    /// Parses `10.0.0.2/24`: an address that a host can have, not the network or broadcast address.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] that names `object` and what is allowed.
    pub fn parse_as(object: &str, text: &str) -> Result<Self> {
        let (address, prefix) = split(object, text, "10.0.0.2/24")?;
        let parsed = Self { address, prefix };
        check_unicast(object, address, text)?;
        if prefix == 0 {
            return Err(Error::bad_input(object, format!("'{text}' has prefix 0 (allowed: 1 and more)")));
        }
        if let IpAddr::V6(v6) = address
            && v6.segments().first().is_some_and(|s| s & 0xffc0 == 0xfe80)
        {
            return Err(Error::bad_input(
                object,
                format!(
                    "'{text}' is link-local and needs a scope (allowed: a global or unique local address)"
                ),
            ));
        }
        let subnet = parsed.subnet();
        let small = prefix >= width(address) - 1;
        if !small && address == subnet.address() {
            let example =
                subnet.host(1).map_or(String::new(), |a| format!(" (allowed: such as {a}/{prefix})"));
            return Err(Error::bad_input(
                object,
                format!("'{text}' is the network address of {subnet}{example}"),
            ));
        }
        if subnet.broadcast() == Some(address) {
            return Err(Error::bad_input(object, format!("'{text}' is the broadcast address of {subnet}")));
        }
        Ok(parsed)
    }

    /// [`InterfaceAddress::parse_as`] with a general name in the error.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_as("address", text)
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The subnet that it is in.
    pub fn subnet(self) -> Subnet {
        Subnet::of(self.address, self.prefix)
    }

    /// From parts that the kernel gave; not checked.
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        Self { address, prefix }
    }
}

/// Refuses what no host may have: unspecified, loopback, multicast, limited broadcast, class E, 0.0.0.0/8.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn check_unicast(object: &str, address: IpAddr, text: &str) -> Result<()> {
    let what = match address {
        a if a.is_unspecified() => "unspecified",
        a if a.is_loopback() => "a loopback address",
        a if a.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.octets().first() == Some(&0) => "in 0.0.0.0/8",
        IpAddr::V4(v4) if v4.octets().first().is_some_and(|o| *o >= 240) => {
            "in the reserved range 240.0.0.0/4"
        }
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4-mapped address",
        _ => return Ok(()),
    };
    let shown = text::shorten(&text::escape(text), 60);
    Err(Error::bad_input(object, format!("'{shown}' is {what} (allowed: a unicast address)")))
}

impl Mac {
    /// Parses `02:00:00:00:00:01`: six pairs of hexadecimal digits, unicast.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown = text::shorten(&text::escape(text), 40);
            Error::bad_input("MAC address", format!("'{shown}' {why} (allowed: such as 02:00:00:00:00:01)"))
        };
        let mut mac = [0u8; 6];
        let parts: Vec<&str> = text.split(':').collect();
        if parts.len() != 6 {
            return Err(bad("does not have six parts"));
        }
        for (byte, part) in mac.iter_mut().zip(parts) {
            let hex = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            *byte =
                u8::from_str_radix(part, 16).ok().filter(|_| hex).ok_or_else(|| bad("is not hexadecimal"))?;
        }
        match mac {
            [0, 0, 0, 0, 0, 0] => Err(bad("is all zero")),
            [first, ..] if first & 1 == 1 => Err(bad("is a multicast address")),
            _ => Ok(Self(mac)),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

macro_rules! text_form {
    ($type:ty) => {
        impl std::str::FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::parse(&text)
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}
text_form!(Subnet);
text_form!(InterfaceAddress);
text_form!(Mac);

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests;
