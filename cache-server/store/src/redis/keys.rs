//! The names of everything in Redis.
//!
//! `P` is the prefix of the settings, `ab` the first two hexadecimal digits of the blob's, the
//! action's or the lease's hash, and NAME a digest without these: the other 31 bytes of the hash, and
//! a number of as few bytes as it needs (LEB128) that is twice the size, plus one for BLAKE3.
//!
//! | key | type | what |
//! |---|---|---|
//! | `P:r{ab}` NAME INSTANCE | string | a result, which goes when it has not been used for long |
//! | `P:l{ab}` INSTANCE | sorted set | NAMEs of the instance's results, by their last use (microseconds) |
//! | `P:i{ab}` | set | the instances that have results |
//! | `P:p{ab}` | sorted set | NAME INSTANCE of pinned results, by the pin's end (milliseconds) |
//! | `P:k{ab}` LENGTH INSTANCE KEY | hash | the latest grant of a lease: number `n`, token `t`, holder `h`, from `s` until `u`, time `l` (microseconds) |
//! | `P:h{ab}` | sorted set | leases that are held, by their end |
//! | `P:b{ab}` NAME | hash | a blob: its [place](super::index::place) `p`, and a field without value for each namespace that holds it |
//! | `P:s{ab}` | hash | sums: blobs `b`, results `r`, and bytes by namespace |
//! | `P:o{o}` | sorted set | objects by their last use (seconds) |
//! | `P:z{o}` | hash | lengths of the objects; without name, their sum |
//! | `P:c{o}` | sorted set | condemned objects, by the time at which they are to be deleted (milliseconds) |
//! | `P:n{o}` ID | string | the name of the namespace that has this [id](namespace) elsewhere |
//! | `P:q{o}` | hash | the server that has the queue: epoch `e`, token `t`, address `a`, until `u` (microseconds) |
//! | `P:j{o}` | hash | the queue's journal: operations by their ids |
//! | `P:w{ab}` | string | that this server can write |
//!
//! The channel `P:leases` tells the leases that were granted or released.
//!
//! What is in braces decides the *slot* of a cluster, and so the node. There are 256 tags, and one
//! more for what is one thing for all. Everything that a script touches has one tag; the lease of an
//! action has the action's, if its key is the action's hash as Ashlar's builders have it.
//!
//! Names of blobs are short, since there are many: with a prefix of four letters and a blob of up to
//! a MiB, a key is 44 bytes long, which with Redis' own is 48, a size that its allocator has.

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};

use crate::lease::LeaseKey;

/// The prefix unless the settings have another.
pub const DEFAULT_PREFIX: &str = "farm";

/// The hash without its first byte, and the longest number.
const LONGEST_NAME: usize = 31 + 10;

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// What decides the slot of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tag {
    /// The first byte of a hash.
    Of(u8),
    /// What there is once.
    Once,
}

impl Tag {
    /// All tags of hashes.
    pub(super) fn all() -> impl Iterator<Item = Self> + Clone {
        (0..=u8::MAX).map(Self::Of)
    }

    /// That of a blob or an action.
    pub(super) const fn of(digest: &CasDigest) -> Self {
        let [first, ..] = digest.hash;
        Self::Of(first)
    }

    /// That of a lease.
    pub(super) fn of_lease(key: &LeaseKey) -> Self {
        let mut hash = [0; 32];
        let is_hash = hex::decode_to_slice(&key.key, &mut hash).is_ok();
        let [first, ..] = if is_hash {
            hash
        } else {
            *blake3::hash(key.key.as_bytes()).as_bytes()
        };
        Self::Of(first)
    }

    /// As keys have it, and how many letters of that.
    const fn text(self) -> ([u8; 2], usize) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        match self {
            Self::Of(byte) => {
                let (high, low) = (DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]);
                ([high, low], 2)
            }
            Self::Once => ([b'o', 0], 1),
        }
    }

    /// The slot of a cluster.
    pub(super) fn slot(self) -> u16 {
        let (letters, count) = self.text();
        crc16(&letters[..count]) % SLOTS
    }
}

/// The checksum by which a cluster spreads keys: CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

/// A key with its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) tag: Tag,
    pub(super) bytes: Vec<u8>,
}

/// Makes keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// All keys begin with this.
    pub(super) const fn new(prefix: String) -> Self {
        Self { prefix }
    }

    fn key(&self, kind: char, tag: Tag, parts: &[&[u8]]) -> Key {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = self.beginning(kind, tag, length);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Key { tag, bytes }
    }

    /// What a key begins with, and room for what follows.
    fn beginning(&self, kind: char, tag: Tag, room: usize) -> Vec<u8> {
        let (letters, count) = tag.text();
        let mut bytes = Vec::with_capacity(self.prefix.len() + 6 + room);
        bytes.extend_from_slice(self.prefix.as_bytes());
        bytes.push(b':');
        // All kinds are letters of ASCII.
        bytes.push(kind as u8);
        bytes.push(b'{');
        bytes.extend_from_slice(&letters[..count]);
        bytes.push(b'}');
        bytes
    }

    pub(super) fn result(&self, key: &ActionKey) -> Key {
        let tag = Tag::of(&key.action);
        self.key('r', tag, &[&name(&key.action), key.instance.as_bytes()])
    }

    pub(super) fn list(&self, tag: Tag, instance: &str) -> Key {
        self.key('l', tag, &[instance.as_bytes()])
    }

    pub(super) fn instances(&self, tag: Tag) -> Key {
        self.key('i', tag, &[])
    }

    pub(super) fn pins(&self, tag: Tag) -> Key {
        self.key('p', tag, &[])
    }

    pub(super) fn lease(&self, key: &LeaseKey) -> Key {
        let tag = Tag::of_lease(key);
        self.key('k', tag, &[&lease_name(key)])
    }

    pub(super) fn held(&self, tag: Tag) -> Key {
        self.key('h', tag, &[])
    }

    /// There are thousands of these in one question.
    pub(super) fn blob(&self, blob: &CasDigest) -> Key {
        let tag = Tag::of(blob);
        let mut bytes = self.beginning('b', tag, LONGEST_NAME);
        push_name(&mut bytes, blob);
        Key { tag, bytes }
    }

    pub(super) fn sums(&self, tag: Tag) -> Key {
        self.key('s', tag, &[])
    }

    pub(super) fn objects(&self) -> Key {
        self.key('o', Tag::Once, &[])
    }

    pub(super) fn lengths(&self) -> Key {
        self.key('z', Tag::Once, &[])
    }

    pub(super) fn condemned(&self) -> Key {
        self.key('c', Tag::Once, &[])
    }

    pub(super) fn namespace(&self, id: &[u8]) -> Key {
        self.key('n', Tag::Once, &[id])
    }

    pub(super) fn leader(&self) -> Key {
        self.key('q', Tag::Once, &[])
    }

    pub(super) fn journal(&self) -> Key {
        self.key('j', Tag::Once, &[])
    }

    pub(super) fn writable(&self, tag: Tag) -> Key {
        self.key('w', tag, &[])
    }

    /// Where changes of leases are told.
    pub(super) fn channel(&self) -> String {
        format!("{}:leases", self.prefix)
    }
}

/// A number, in as few bytes as it needs.
pub(super) fn number(number: u128) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4);
    push_number(&mut bytes, number);
    bytes
}

fn push_number(bytes: &mut Vec<u8>, mut number: u128) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Takes a [`number`] off the front.
pub(super) fn take_number(bytes: &[u8]) -> Option<(u128, &[u8])> {
    let mut number = 0_u128;
    // Ten bytes have 70 bits: more than any number here.
    for (place, byte) in bytes.iter().enumerate().take(10) {
        number |= u128::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(place + 1..)?));
        }
    }
    None
}

/// A digest, but for its first byte, which is in the tag.
pub(super) fn name(digest: &CasDigest) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LONGEST_NAME);
    push_name(&mut bytes, digest);
    bytes
}

fn push_name(bytes: &mut Vec<u8>, digest: &CasDigest) {
    let [_, rest @ ..] = &digest.hash;
    let blake3 = digest.function == DigestFunction::Blake3;
    bytes.extend_from_slice(rest);
    push_number(bytes, u128::from(digest.size) << 1 | u128::from(blake3));
}

/// Takes a [`name`] off the front.
pub(super) fn take_name(tag: Tag, bytes: &[u8]) -> Option<(CasDigest, &[u8])> {
    let Tag::Of(first) = tag else { return None };
    let (rest, bytes) = bytes.split_first_chunk::<31>()?;
    let (number, bytes) = take_number(bytes)?;
    let mut hash = [first; 32];
    let [_, tail @ ..] = &mut hash;
    *tail = *rest;
    let digest = CasDigest {
        function: if number & 1 == 1 {
            DigestFunction::Blake3
        } else {
            DigestFunction::Sha256
        },
        hash,
        size: u64::try_from(number >> 1).ok()?,
    };
    Some((digest, bytes))
}

/// The result of NAME INSTANCE.
pub(super) fn parse_result_name(tag: Tag, bytes: &[u8]) -> Option<ActionKey> {
    let (action, instance) = take_name(tag, bytes)?;
    let instance = String::from_utf8(instance.to_vec()).ok()?;
    Some(ActionKey { instance, action })
}

/// LENGTH INSTANCE KEY: no two leases share it.
pub(super) fn lease_name(key: &LeaseKey) -> Vec<u8> {
    let mut bytes = number(key.instance.len() as u128);
    bytes.extend_from_slice(key.instance.as_bytes());
    bytes.extend_from_slice(key.key.as_bytes());
    bytes
}

/// What stands for a namespace with blobs and in sums: short, and the same for ever, so that nothing
/// has to be looked up. That two namespaces have the same would take 2⁸⁰ attempts by whoever may
/// choose names.
pub(super) fn namespace(name: &str) -> [u8; 10] {
    let hash = blake3::derive_key("ashlar cache namespace v1", name.as_bytes());
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(function: DigestFunction, size: u64) -> CasDigest {
        let mut hash = [7; 32];
        hash[0] = 0xab;
        CasDigest {
            function,
            hash,
            size,
        }
    }

    #[test]
    fn keys_are_as_they_always_were() {
        let keys = Keys::new("farm".to_owned());
        let blob = digest(DigestFunction::Blake3, 131_072);
        let mut expected = b"farm:b{ab}".to_vec();
        expected.extend([7; 31]);
        expected.extend([0x81, 0x80, 0x10]);
        assert_eq!(expected.len(), 44);
        assert_eq!(keys.blob(&blob).bytes, expected);
        let result = ActionKey {
            instance: "org/main".to_owned(),
            action: digest(DigestFunction::Sha256, 3),
        };
        let mut expected = b"farm:r{ab}".to_vec();
        expected.extend([7; 31]);
        expected.extend(b"\x06org/main");
        assert_eq!(keys.result(&result).bytes, expected);
        let lease = LeaseKey {
            instance: "org".to_owned(),
            key: "mount".to_owned(),
        };
        let tag = blake3::hash(b"mount").as_bytes()[0];
        let expected = format!("farm:k{{{tag:02x}}}\x03orgmount");
        assert_eq!(keys.lease(&lease).bytes, expected.as_bytes());
        assert_eq!(keys.objects().bytes, b"farm:o{o}");
        assert_eq!(hex::encode(namespace("org/main")), "44567936d19b5a84013e");
    }

    /// As `CLUSTER KEYSLOT` has them.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(Tag::Of(0x00).slot(), 13_254);
        assert_eq!(Tag::Of(0xab).slot(), 13_567);
        assert_eq!(Tag::Of(0xff).slot(), 11_756);
        assert_eq!(Tag::Once.slot(), 7_497);
    }

    #[test]
    fn a_lease_has_the_tag_of_its_action() {
        let action = digest(DigestFunction::Blake3, 1);
        let lease = |key: &str| LeaseKey {
            instance: String::new(),
            key: key.to_owned(),
        };
        assert_eq!(Tag::of_lease(&lease(&action.hash_hex())), Tag::of(&action));
        // Any other key has one as well.
        for key in ["", "ab", "/root/.cache"] {
            let [first, ..] = *blake3::hash(key.as_bytes()).as_bytes();
            assert_eq!(Tag::of_lease(&lease(key)), Tag::Of(first));
        }
    }

    #[test]
    fn names_are_read_back() {
        for size in [0, 1, 63, 64, 131_072, u64::MAX] {
            for function in [DigestFunction::Sha256, DigestFunction::Blake3] {
                let key = ActionKey {
                    instance: "a/b".to_owned(),
                    action: digest(function, size),
                };
                let mut name = name(&key.action);
                name.extend_from_slice(key.instance.as_bytes());
                assert_eq!(parse_result_name(Tag::Of(0xab), &name), Some(key));
            }
        }
        assert_eq!(parse_result_name(Tag::Of(0), b"short"), None);
        assert_eq!(parse_result_name(Tag::Of(0), &[0xff; 60]), None);
    }
}
