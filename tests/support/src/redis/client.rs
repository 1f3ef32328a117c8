//! A client of Redis that blocks, one command at a time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A short text: `OK`.
    Status(String),
    /// The server's refusal.
    Error(String),
    /// A number.
    Integer(i64),
    /// A string.
    Bulk(Vec<u8>),
    /// Several answers.
    Array(Vec<Self>),
    /// None.
    Nil,
}

impl Reply {
    /// A status or a string as text.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// A number, also one that is written as a string.
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => other
                .text()
                .parse()
                .unwrap_or_else(|_| panic!("not a number: {other:?}")),
        }
    }

    /// The answers of an array.
    #[track_caller]
    pub fn array(self) -> Vec<Self> {
        match self {
            Self::Array(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    /// The answer behind a name, in an array of names and answers.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Self::Array(items) = self else {
            return None;
        };
        items.chunks_exact(2).find_map(|pair| match pair {
            [Self::Bulk(key), value] if key == name.as_bytes() => Some(value),
            _ => None,
        })
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a server on this machine, which has so long for each answer.
    pub fn connect(port: u16, password: Option<&str>, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(patience))?;
        let mut client = Self {
            stream: BufReader::new(stream),
        };
        if let Some(password) = password
            && let Reply::Error(error) = client.command(&["AUTH", password])?
        {
            return Err(io::Error::other(error));
        }
        Ok(client)
    }

    /// Sends a command and gives its answer.
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let argument = argument.as_ref();
            request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            request.extend_from_slice(argument);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let kind = line.chars().next().unwrap_or_default();
        let rest = line.get(1..).unwrap_or_default();
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            '+' => Reply::Status(rest.to_owned()),
            '-' => Reply::Error(rest.to_owned()),
            ':' => Reply::Integer(number()?),
            '$' => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bulk(bytes)
                }
                Err(_) => Reply::Nil,
            },
            '*' => match usize::try_from(number()?) {
                Ok(length) => {
                    let items = (0..length).map(|_| self.reply());
                    Reply::Array(items.collect::<io::Result<_>>()?)
                }
                Err(_) => Reply::Nil,
            },
            _ => return Err(io::Error::other(format!("not an answer: {line}"))),
        })
    }
}
