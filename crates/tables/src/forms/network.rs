//! Network addresses.
//!
//! Owns: `inet`, `cidr`, `macaddr` and `macaddr8`.
//! Does not: check that the host bits of a `cidr` are zero; the server did.
//! Holds: an IPv6 address is shortened as Postgres shortens it.
//! Fails: [`Malformed`] on an unknown family, or more bits than the family has.

use std::net::Ipv4Addr;

use crate::binary::{hex, take, whole, write};
use crate::text::Malformed;

/// Writes an address, and its netmask's bits unless they are all.
pub(crate) fn inet(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let network = Network::read(bytes)?;
    network.render(text);
    if network.bits != network.bits_max() {
        write(text, format_args!("/{}", network.bits));
    }
    Ok(())
}

/// Writes an address and its netmask's bits.
pub(crate) fn cidr(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let network = Network::read(bytes)?;
    network.render(text);
    write(text, format_args!("/{}", network.bits));
    Ok(())
}

struct Network {
    bits: u8,
    address: Address,
}

enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Network {
    fn read(bytes: &[u8]) -> Result<Network, Malformed> {
        let mut rest = bytes;
        // The third byte says which of the two types it is, which we know.
        let [family, bits, _, size] = take(&mut rest)?;
        let address = match (family, size) {
            (2, 4) => Address::V4(whole(rest)?),
            (3, 16) => Address::V6(whole(rest)?),
            _ => return Err(Malformed),
        };
        let network = Network { bits, address };
        if bits <= network.bits_max() { Ok(network) } else { Err(Malformed) }
    }

    fn bits_max(&self) -> u8 {
        match self.address {
            Address::V4(_) => 32,
            Address::V6(_) => 128,
        }
    }

    fn render(&self, text: &mut Vec<u8>) {
        match self.address {
            Address::V4(bytes) => write(text, format_args!("{}", Ipv4Addr::from(bytes))),
            Address::V6(bytes) => render_v6(bytes, text),
        }
    }
}

/// As `pg_inet_net_ntop` does it: the first longest run of two zero words or more becomes `::`, and what looks like an
/// embedded IPv4 address is printed as one.
fn render_v6(bytes: [u8; 16], text: &mut Vec<u8>) {
    let (words, _) = bytes.as_chunks::<2>();
    let words = words.iter().map(|word| u16::from_be_bytes(*word));
    let zeros = longest_zeros(words.clone());
    let embeds_v4 = match (zeros.start, zeros.len()) {
        (0, 6) => true,
        (0, 5) => words.clone().nth(5) == Some(0xFFFF),
        _ => false,
    };
    for (place, word) in words.enumerate() {
        if zeros.contains(&place) {
            if place == zeros.start {
                text.push(b':');
            }
            continue;
        }
        if place != 0 {
            text.push(b':');
        }
        if place == 6 && embeds_v4 {
            let [.., b1, b2, b3, b4] = bytes;
            return write(text, format_args!("{}", Ipv4Addr::new(b1, b2, b3, b4)));
        }
        write(text, format_args!("{word:x}"));
    }
    if zeros.end == 8 {
        text.push(b':');
    }
}

/// The places of the first longest run of zeros, empty if there is none of two or more.
fn longest_zeros(words: impl Iterator<Item = u16>) -> std::ops::Range<usize> {
    let mut longest = 0..0;
    let mut run = 0..0;
    for (place, word) in words.enumerate() {
        run = match word {
            0 if run.end == place => run.start..place + 1,
            0 => place..place + 1,
            _ => continue,
        };
        if run.len() > longest.len() {
            longest = run.clone();
        }
    }
    if longest.len() >= 2 { longest } else { 0..0 }
}

/// Writes six bytes in hexadecimal digits.
pub(crate) fn macaddr(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    render_mac(&whole::<6>(bytes)?, text);
    Ok(())
}

/// Writes eight bytes in hexadecimal digits.
pub(crate) fn macaddr8(bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    render_mac(&whole::<8>(bytes)?, text);
    Ok(())
}

fn render_mac(bytes: &[u8], text: &mut Vec<u8>) {
    for (place, byte) in bytes.iter().enumerate() {
        if place > 0 {
            text.push(b':');
        }
        text.extend_from_slice(&hex(*byte));
    }
}
