//! As much of HTTP/1.1 as tests need: messages with a head and a body of known length, one a
//! connection.

use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The status and the body of a path of a server on this machine.
pub(crate) fn get(port: u16, path: &str, patience: Duration) -> io::Result<(u16, String)> {
    get_from(&format!("127.0.0.1:{port}"), path, patience)
}

/// The same of a server at an `ADDRESS:PORT`.
pub(crate) fn get_from(host: &str, path: &str, patience: Duration) -> io::Result<(u16, String)> {
    let address = host.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let answer = Message::read(&mut BufReader::new(stream), false)?;
    let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Ok((answer.status(), body))
}

/// A request or an answer, read as a whole: the images of the tests are small.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// The header fields in their order.
    pub(crate) fields: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// An answer.
    pub(crate) fn answer(status: &str, fields: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let mut message = Self {
            start: format!("HTTP/1.1 {status}"),
            fields: Vec::new(),
            body: body.into(),
        };
        for (name, value) in fields {
            message.set(name, value);
        }
        message.set("Content-Length", &message.body.len().to_string());
        message
    }

    /// Reads a message; `None` if the connection ends before it begins. `head_only` is for
    /// answers to HEAD, which tell of a body and have none.
    pub(crate) fn read(input: &mut impl BufRead, head_only: bool) -> io::Result<Option<Self>> {
        let mut start = String::new();
        if input.read_line(&mut start)? == 0 {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut message = Self {
            start: start.trim_end().to_owned(),
            fields,
            body: Vec::new(),
        };
        if !head_only {
            message.body = message.read_body(input)?;
        }
        Ok(Some(message))
    }

    fn read_body(&self, input: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.field("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                input.read_line(&mut line)?;
                let length = line.trim().split(';').next().unwrap_or_default();
                let length = u64::from_str_radix(length, 16)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                input.by_ref().take(length).read_to_end(&mut body)?;
                input.read_line(&mut line)?;
                if length == 0 {
                    return Ok(body);
                }
            }
        }
        let length = self
            .field("content-length")
            .and_then(|text| text.parse().ok());
        input.take(length.unwrap_or(0)).read_to_end(&mut body)?;
        Ok(body)
    }

    /// A header field's value.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Sets a header field.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    /// Removes a header field.
    pub(crate) fn remove(&mut self, name: &str) {
        self.fields
            .retain(|(own, _)| !own.eq_ignore_ascii_case(name));
    }

    /// Writes the head, and of the body as much as is given.
    pub(crate) fn write(&self, output: &mut impl Write, body: &[u8]) -> io::Result<()> {
        let mut head = format!("{}\r\n", self.start);
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        output.write_all(head.as_bytes())?;
        output.write_all(body)?;
        output.flush()
    }

    /// The status code of an answer.
    pub(crate) fn status(&self) -> u16 {
        let code = self
            .start
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok());
        code.unwrap_or(0)
    }
}
