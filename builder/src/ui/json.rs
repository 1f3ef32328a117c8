//! Progress for programs: one JSON object on each line.
//!
//! | field | in | meaning |
//! |---|---|---|
//! | `at` | all | seconds since the build began |
//! | `event` | all | `announced`, `started`, `waiting`, `output`, `progress`, `cached`, `finished`, `failed`, `cancelled`, `warning` |
//! | `vertex` | all but `warning` | number of the vertex |
//! | `name` | `announced` | how people call it |
//! | `why` | `queued` | why it waits for a worker of a farm |
//! | `worker`, `attempt` | `assigned` | the worker that has it, and how many have had it |
//! | `holder` | `waiting` | the other machine that runs the step; absent if a process of this one does |
//! | `stream` | `output` | `stdout` or `stderr` |
//! | `text` | `output` | one line, without its end; what is not UTF-8 is U+FFFD |
//! | `label`, `done`, `total` | `progress` | what is counted, bytes so far, bytes in all if known |
//! | `elapsed` | `finished`, `failed` | seconds that it took |
//! | `error` | `failed` | one line |
//! | `message` | `warning` | one line |
//! | `rule`, `line`, `url` | `warning` of the linter | which rule, at which line, and where it is explained if anywhere |
//!
//! Fields may be added; those that are here keep their meaning.

use std::io::Write as _;
use std::time::Duration;

use ashlar_engine::event::{BuildEvent, VertexId};
use ashlar_model::executor::OutputStream;
use serde::Serialize;

use super::Display;
use super::book::{Book, Vertex};
use super::out::Out;

pub(super) struct Json {
    out: Out,
}

#[derive(Serialize)]
struct Line<'a> {
    at: f64,
    #[serde(flatten)]
    event: Event<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Announced {
        vertex: u32,
        name: &'a str,
    },
    Started {
        vertex: u32,
    },
    Waiting {
        vertex: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        holder: Option<&'a str>,
    },
    Queued {
        vertex: u32,
        why: &'a str,
    },
    Assigned {
        vertex: u32,
        worker: &'a str,
        attempt: u32,
    },
    Output {
        vertex: u32,
        stream: &'static str,
        text: &'a str,
    },
    Progress {
        vertex: u32,
        label: &'a str,
        done: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    Cached {
        vertex: u32,
    },
    Finished {
        vertex: u32,
        elapsed: f64,
    },
    Failed {
        vertex: u32,
        elapsed: f64,
        error: &'a str,
    },
    Cancelled {
        vertex: u32,
    },
    Warning {
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<&'a str>,
    },
}

/// Microseconds are exact enough, and keep the lines short.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

impl Json {
    pub(super) const fn new(out: Out) -> Self {
        Self { out }
    }

    fn put(&mut self, at: Duration, event: Event<'_>) {
        let line = Line {
            at: seconds(at),
            event,
        };
        // Neither the text nor the numbers can fail to be JSON, nor memory to be written.
        if serde_json::to_writer(&mut self.out, &line).is_ok() {
            let _ok = self.out.write_all(b"\n");
        }
    }
}

impl Display for Json {
    fn event(&mut self, at: Duration, _book: &Book, event: &BuildEvent) {
        let url;
        let event = match event {
            BuildEvent::Announced {
                vertex: VertexId(vertex),
                name,
            } => Event::Announced {
                vertex: *vertex,
                name,
            },
            BuildEvent::Started {
                vertex: VertexId(vertex),
            } => Event::Started { vertex: *vertex },
            BuildEvent::Waiting {
                vertex: VertexId(vertex),
                holder,
            } => Event::Waiting {
                vertex: *vertex,
                holder: holder.as_deref(),
            },
            BuildEvent::Queued {
                vertex: VertexId(vertex),
                why,
            } => Event::Queued {
                vertex: *vertex,
                why,
            },
            BuildEvent::Assigned {
                vertex: VertexId(vertex),
                worker,
                attempt,
            } => Event::Assigned {
                vertex: *vertex,
                worker,
                attempt: *attempt,
            },
            BuildEvent::Progress {
                vertex: VertexId(vertex),
                label,
                done,
                total,
            } => Event::Progress {
                vertex: *vertex,
                label,
                done: *done,
                total: *total,
            },
            BuildEvent::Cached {
                vertex: VertexId(vertex),
            } => Event::Cached { vertex: *vertex },
            BuildEvent::Finished {
                vertex: VertexId(vertex),
                elapsed,
            } => Event::Finished {
                vertex: *vertex,
                elapsed: seconds(*elapsed),
            },
            BuildEvent::Failed {
                vertex: VertexId(vertex),
                elapsed,
                error,
            } => Event::Failed {
                vertex: *vertex,
                elapsed: seconds(*elapsed),
                error,
            },
            BuildEvent::Cancelled {
                vertex: VertexId(vertex),
            } => Event::Cancelled { vertex: *vertex },
            BuildEvent::Warning { message } => Event::Warning {
                message,
                rule: None,
                line: None,
                url: None,
            },
            BuildEvent::Finding(finding) => {
                url = finding.rule.url();
                Event::Warning {
                    message: &finding.detail,
                    rule: Some(finding.rule.name()),
                    line: Some(finding.range.start.line),
                    url: url.as_deref(),
                }
            }
            // Output came by `line`; it only remains to be sent.
            _ => return self.out.send(),
        };
        self.put(at, event);
        self.out.send();
    }

    fn line(&mut self, at: Duration, vertex: &Vertex, stream: OutputStream, line: &[u8]) {
        let stream = match stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        let event = Event::Output {
            vertex: vertex.id.0,
            stream,
            text: &String::from_utf8_lossy(line),
        };
        self.put(at, event);
    }
}

#[cfg(test)]
mod tests {
    use super::super::recording::Recording;
    use super::*;

    #[test]
    fn each_event_is_an_object_on_a_line() {
        let mut recording = Recording::new(|out| Box::new(Json::new(out)));
        recording.announce(1, "[1/2] FROM \"scratch\"");
        recording.at(0.25).cached(1);
        recording.announce(2, "[2/2] RUN x");
        recording.at(0.5).waiting(2, None);
        recording.waiting(2, Some("ci-7"));
        recording.started(2);
        recording.at(0.75).stderr(2, b"a\nb\xff");
        recording.work(2, "extracting", 3, Some(7));
        recording.at(1.0).failed(2, 0.5, "exit code: 1");
        recording.warning("odd");
        recording.finding(3, "odder");
        let expected = r#"{"at":0.0,"event":"announced","vertex":1,"name":"[1/2] FROM \"scratch\""}
{"at":0.25,"event":"cached","vertex":1}
{"at":0.25,"event":"announced","vertex":2,"name":"[2/2] RUN x"}
{"at":0.5,"event":"waiting","vertex":2}
{"at":0.5,"event":"waiting","vertex":2,"holder":"ci-7"}
{"at":0.5,"event":"started","vertex":2}
{"at":0.75,"event":"output","vertex":2,"stream":"stderr","text":"a"}
{"at":0.75,"event":"progress","vertex":2,"label":"extracting","done":3,"total":7}
{"at":1.0,"event":"output","vertex":2,"stream":"stderr","text":"b�"}
{"at":1.0,"event":"failed","vertex":2,"elapsed":0.5,"error":"exit code: 1"}
{"at":1.0,"event":"warning","message":"odd"}
{"at":1.0,"event":"warning","message":"odder","rule":"InvalidBaseImagePlatform","line":3}
"#;
        assert_eq!(recording.finish(), expected);
    }
}
