//! Typed packets with file descriptors, over a pair of Unix sockets.
//!
//! A channel is a `SOCK_SEQPACKET` socket: one packet is one message in postcard, and the
//! descriptors that belong to it. The end of the peer is an end of file. Messages are small;
//! what may be large crosses in a memory file, whose descriptor is sent.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest packet. Far above any message (paths and error texts), below the smallest default
/// socket buffer (208 KiB), so that sending one packet to an idle peer never blocks.
const PACKET_LIMIT: usize = 64 * 1024;

/// Most descriptors in one packet: a specification, a channel and three standard streams.
pub(super) const DESCRIPTOR_LIMIT: usize = 5;

/// One end of a channel.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// A message and its descriptors.
pub(super) type Packet<T> = (T, Vec<OwnedFd>);

impl Channel {
    /// Two ends that are connected to each other; both close on exec.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// Sends a message with descriptors, of which the peer gets duplicates.
    pub(super) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
        // Nothing would look like the end.
        if bytes.is_empty() || bytes.len() > PACKET_LIMIT || descriptors.len() > DESCRIPTOR_LIMIT {
            return Err(Errno::MSGSIZE.into());
        }
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        // No SIGPIPE: a peer that has gone is an ordinary error.
        sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Takes the next message, waiting for it if the socket blocks; `None` when the peer has
    /// gone. Gives `WouldBlock` if there is none and the socket does not block.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Packet<T>>> {
        let mut bytes = vec![0; PACKET_LIMIT];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                result => break result?,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(Errno::MSGSIZE.into());
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let message = postcard::from_bytes(&bytes[..received.bytes]).map_err(io::Error::other)?;
        Ok(Some((message, descriptors)))
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Puts a message of any length into a memory file.
pub(super) fn write_memory_file<T: Serialize>(name: &str, message: &T) -> io::Result<OwnedFd> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(file)
}

/// Reads the message that a memory file holds.
pub(super) fn read_memory_file<T: DeserializeOwned>(file: OwnedFd) -> io::Result<T> {
    use std::io::Read as _;

    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn messages_arrive_whole_and_in_order_with_their_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        one.send(&"first", &[writer.as_fd()]).unwrap();
        one.send(&"second", &[]).unwrap();
        drop(writer);

        let (message, descriptors) = other.receive::<String>().unwrap().unwrap();
        assert_eq!((message.as_str(), descriptors.len()), ("first", 1));
        for descriptor in descriptors {
            std::fs::File::from(descriptor)
                .write_all(b"through")
                .unwrap();
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");

        let (message, descriptors) = other.receive::<String>().unwrap().unwrap();
        assert_eq!((message.as_str(), descriptors.len()), ("second", 0));
    }

    #[test]
    fn a_peer_that_has_gone_is_an_end_for_the_reader_and_an_error_for_the_writer() {
        let (one, other) = Channel::pair().unwrap();
        drop(other);
        assert_eq!(
            one.send(&1, &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        assert!(one.receive::<u32>().unwrap().is_none());
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_by_the_sender() {
        let (one, _other) = Channel::pair().unwrap();
        one.send(&vec![0_u8; PACKET_LIMIT + 1], &[]).unwrap_err();
    }

    #[test]
    fn a_message_of_no_bytes_is_refused_for_it_would_look_like_the_end() {
        let (one, _other) = Channel::pair().unwrap();
        one.send(&(), &[]).unwrap_err();
    }

    #[test]
    fn nonsense_is_an_error() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&0_u8, &[]).unwrap();
        other.receive::<[String; 2]>().unwrap_err();
    }

    #[test]
    fn a_memory_file_carries_a_long_message() {
        let message = vec![7_u8; 3 * PACKET_LIMIT];
        let file = write_memory_file("test", &message).unwrap();
        assert_eq!(read_memory_file::<Vec<u8>>(file).unwrap(), message);
    }
}
