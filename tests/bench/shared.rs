//! The rows of the shared cache: what it costs to send, to fetch and to ask, what travels between
//! machines, and what the server needs for how much it holds.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::reapi::Client;
use ashlar_test_support::wire::Wire;
use bytes::Bytes;

use crate::floor;
use crate::generate;
use crate::measure::{self, Case, Measurement, Run, Sample};
use crate::rows::{Row, of};
use crate::subject::{Ashlar, Site, write};

/// What is sent and fetched: as much as a larger layer has, not compressible.
const LAYER: usize = 256 << 20;

/// The length of the chunks that layers are sent in.
const CHUNK: usize = 128 << 10;

/// Digests that FindMissing is asked about.
const ASKED: [usize; 3] = [100, 1000, 10_000];

/// How often it is asked for one figure.
const QUESTIONS: u32 = 30;

/// What a server may hold.
const RESULTS: usize = 100_000;
const SMALL_BLOBS: usize = 1_000_000;

/// All rows.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "upload",
            work: "256 MB to the cache server, on loopback",
            goal: ">= 0.6 x a plain TCP copy of the same bytes",
            met: |all| {
                Some(of(all, "ashlar, one blob")? <= of(all, "TCP copy")?.mul_f64(1.0 / 0.6))
            },
            cases: upload,
            rounds: None,
        },
        Row {
            name: "download",
            work: "256 MB from the cache server, on loopback",
            goal: ">= 0.6 x a plain TCP copy of the same bytes",
            met: |all| {
                Some(of(all, "ashlar, one blob")? <= of(all, "TCP copy")?.mul_f64(1.0 / 0.6))
            },
            cases: download,
            rounds: None,
        },
        Row {
            name: "find-missing",
            work: "one question for missing blobs, half of which are there",
            goal: "10,000 <= 20 x 100",
            met: |all| Some(of(all, "ashlar, 10,000")? <= of(all, "ashlar, 100")? * 20),
            cases: find_missing,
            rounds: None,
        },
        Row {
            name: "second-machine",
            work: "20 steps on a second machine, all in the shared cache",
            goal: "<= 50 ms, no layer bytes",
            met: |all| {
                let few = bytes_of(all, "ashlar, with a cache")? < 100_000;
                Some(few && of(all, "ashlar, with a cache")? <= Duration::from_millis(50))
            },
            cases: second_machine,
            rounds: None,
        },
        Row {
            name: "one-dependency",
            work: "one dependency bumped in a layer of 309 MB and 11,190 files",
            goal: "<= 3 MB sent",
            met: |all| Some(bytes_of(all, "ashlar, bumped")? <= 3_000_000),
            cases: one_dependency,
            rounds: Some(1),
        },
        Row {
            name: "server-results",
            work: "100,000 results sent to a server; its memory",
            goal: "<= 64 MiB + 100 B each",
            met: |all| Some(memory_of(all, "ashlar, filled")? <= (64 << 20) + 100 * RESULTS as u64),
            cases: server_results,
            rounds: Some(1),
        },
        Row {
            name: "server-blobs",
            work: "a million small blobs sent to a server; its memory; until it listens again",
            goal: "<= 64 MiB + 100 B each",
            met: |all| {
                Some(memory_of(all, "ashlar, filled")? <= (64 << 20) + 100 * SMALL_BLOBS as u64)
            },
            cases: server_blobs,
            rounds: Some(1),
        },
    ]
}

fn find<'a>(measurements: &'a [Measurement], subject: &str) -> Option<&'a Measurement> {
    measurements.iter().find(|known| known.subject == subject)
}

fn bytes_of(measurements: &[Measurement], subject: &str) -> Option<u64> {
    find(measurements, subject)?.bytes
}

fn memory_of(measurements: &[Measurement], subject: &str) -> Option<u64> {
    Some(find(measurements, subject)?.memory)
}

/// A server that is started when it is needed, so that a subject that is left out needs none.
#[derive(Default)]
struct Lazy {
    server: RefCell<Option<CacheServer>>,
    client: OnceCell<Client>,
}

impl Lazy {
    fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let server = CacheServer::start();
            let client = Client::connect(&server.url());
            self.server.replace(Some(server));
            client
        })
    }

    fn with_server<T>(&self, action: impl FnOnce(&mut CacheServer) -> T) -> T {
        let mut server = self.server.borrow_mut();
        action(server.get_or_insert_with(CacheServer::start))
    }

    fn memory(&self) -> u64 {
        let id = self.with_server(|server| server.id());
        measure::proportional_set_size(id).expect("the server runs")
    }
}

/// Bytes that no round had before.
fn layer(round: &Cell<u64>) -> Bytes {
    round.set(round.get() + 1);
    // Only the beginning differs, for to make all of it anew takes longer than to send it.
    let mut bytes = noise();
    for chunk in bytes.chunks_mut(CHUNK) {
        chunk[..8].copy_from_slice(&round.get().to_le_bytes());
    }
    Bytes::from(bytes)
}

/// Always the same bytes, which no compressor makes smaller.
fn noise() -> Vec<u8> {
    thread_local! {
        static NOISE: Vec<u8> = Numbers::new(3).bytes(LAYER);
    }
    NOISE.with(Clone::clone)
}

/// The bytes in chunks, with their digests.
fn chunks(bytes: &Bytes) -> Vec<(CasDigest, Bytes)> {
    (0..bytes.len())
        .step_by(CHUNK)
        .map(|start| bytes.slice(start..(start + CHUNK).min(bytes.len())))
        .map(|chunk| (CasDigest::of(DigestFunction::Blake3, &chunk), chunk))
        .collect()
}

fn blob(bytes: &Bytes) -> (CasDigest, Bytes) {
    (CasDigest::of(DigestFunction::Blake3, bytes), bytes.clone())
}

fn timed(action: impl FnOnce()) -> Sample {
    let started = Instant::now();
    action();
    Sample {
        time: started.elapsed(),
        ..Sample::default()
    }
}

/// The same bytes, over a connection to a thread that throws them away, or writes them to a file
/// that is on the disk in the end, as what a server has accepted is.
fn tcp_copy<'a>(subject: &'static str, file: Option<&'a Site>) -> Case<'a> {
    let bytes = OnceCell::new();
    Case::sampled(subject, move |_| {
        let bytes = bytes.get_or_init(noise);
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is no free port");
        let address = listener.local_addr().expect("a listener has an address");
        let mut file = file.map(|site| File::create(site.fresh("copy")).expect("no file"));
        let receiver = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("nobody comes");
            let mut buffer = vec![0; 256 << 10];
            let mut received = 0;
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                received += count;
                if let Some(file) = &mut file {
                    file.write_all(&buffer[..count]).expect("no room");
                }
            }
            if let Some(file) = file {
                file.sync_data().expect("no disk");
            }
            received
        });
        timed(|| {
            let mut stream = TcpStream::connect(address).expect("nobody listens");
            for piece in bytes.chunks(256 << 10) {
                stream.write_all(piece).expect("a connection that was cut");
            }
            drop(stream);
            let received = receiver.join().expect("the receiver panicked");
            assert_eq!(received, LAYER);
        })
    })
}

fn upload(site: &Site) -> Vec<Case<'_>> {
    let lazy = Rc::<Lazy>::default();
    let round = Rc::new(Cell::new(0));
    let (other, other_round) = (Rc::clone(&lazy), Rc::clone(&round));
    vec![
        Case::sampled("ashlar, one blob", move |_| {
            let (digest, bytes) = blob(&layer(&round));
            let client = lazy.client();
            timed(|| client.write(&digest, bytes))
        }),
        Case::sampled("ashlar, in chunks", move |_| {
            let chunks = chunks(&layer(&other_round));
            let client = other.client();
            timed(|| client.write_many(chunks))
        }),
        tcp_copy("TCP copy", None),
        tcp_copy("TCP copy, to the disk", Some(site)),
    ]
}

fn download(_: &Site) -> Vec<Case<'_>> {
    let lazy = Rc::<Lazy>::default();
    let other = Rc::clone(&lazy);
    let (whole, pieces) = (OnceCell::new(), OnceCell::new());
    vec![
        Case::sampled("ashlar, one blob", move |_| {
            let client = lazy.client();
            let digest = whole.get_or_init(|| {
                let (digest, bytes) = blob(&layer(&Cell::new(0)));
                client.write(&digest, bytes);
                digest
            });
            timed(|| assert_eq!(client.read(digest).len(), LAYER))
        }),
        Case::sampled("ashlar, in chunks", move |_| {
            let client = other.client();
            let digests = pieces.get_or_init(|| -> Vec<CasDigest> {
                let chunks = chunks(&layer(&Cell::new(0)));
                let digests = chunks.iter().map(|(digest, _)| *digest).collect();
                client.write_many(chunks);
                digests
            });
            timed(|| assert_eq!(client.read_many(digests), LAYER as u64))
        }),
        tcp_copy("TCP copy", None),
    ]
}

fn find_missing(_: &Site) -> Vec<Case<'_>> {
    let lazy = Rc::<Lazy>::default();
    let names = ["ashlar, 100", "ashlar, 1,000", "ashlar, 10,000"];
    let cases = ASKED.into_iter().zip(names).map(|(count, name)| {
        let lazy = Rc::clone(&lazy);
        let asked = OnceCell::new();
        Case::sampled(name, move |_| {
            let client = lazy.client();
            let asked = asked.get_or_init(|| -> Vec<CasDigest> {
                let blobs = small_blobs(count as u64, count);
                let digests = blobs.iter().map(|(digest, _)| *digest).collect();
                let half = blobs.into_iter().step_by(2).collect();
                client.write_many(half);
                digests
            });
            let sample = timed(|| {
                for _ in 0..QUESTIONS {
                    assert_eq!(client.missing(asked), count / 2);
                }
            });
            Sample {
                time: sample.time / QUESTIONS,
                ..sample
            }
        })
    });
    cases.collect()
}

/// Blobs of a few hundred bytes.
fn small_blobs(seed: u64, count: usize) -> Vec<(CasDigest, Bytes)> {
    let mut numbers = Numbers::new(seed);
    (0..count)
        .map(|_| {
            let size = 100 + numbers.place(300);
            let bytes = Bytes::from(numbers.bytes(size));
            (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
        })
        .collect()
}

/// Twenty steps, built and shared by one machine; and then by machines that have nothing.
fn second_machine(site: &Site) -> Vec<Case<'_>> {
    let prepared = OnceCell::new();
    let prepare = move || {
        let context = site.directory("twenty-steps");
        let text = generate::twenty_steps(&Ashlar::base(), &context);
        write(&context.join("Dockerfile"), text);
        let server = CacheServer::start();
        site.ashlar()
            .build(&context, &context.join("Dockerfile"))
            .args(["--cache", &server.url()])
            .run()
            .success()
            .code();
        (context, server)
    };
    vec![
        Case::sampled("ashlar, with a cache", move |run| {
            let (context, server) = prepared.get_or_init(prepare);
            let build = |url: &str| {
                site.ashlar()
                    .build(context, &context.join("Dockerfile"))
                    .args(["--cache", url])
            };
            shared_build(run, server, build)
        }),
        floor::nothing(site),
    ]
}

/// Builds with a server, and counts the bytes where nothing is timed: as many as a network would
/// see, where they are compressed.
pub(crate) fn shared_build(
    run: Run,
    server: &CacheServer,
    build: impl Fn(&str) -> TestCommand,
) -> Sample {
    match run {
        Run::Weigh => {
            let wire = Wire::before(server.port());
            let memory = measure::weigh(build(&wire.far_url()));
            let passed = wire.passed();
            Sample {
                memory,
                bytes: Some(passed.up + passed.down),
                ..Sample::default()
            }
        }
        Run::Time => {
            let output = build(&server.url()).run();
            output.success();
            Sample {
                time: output.elapsed(),
                ..Sample::default()
            }
        }
    }
}

/// A layer of packages that is sent for the first time, and after one of them was changed, each
/// time by a machine that has nothing.
fn one_dependency(site: &Site) -> Vec<Case<'_>> {
    let tree = site.once("packages", |root| {
        eprintln!("  making a tree of 309 MB");
        generate::packages(&root.join("site-packages"));
    });
    let dockerfile: PathBuf = site
        .context("FROM scratch\nCOPY site-packages /usr/lib/python3/site-packages/\n")
        .join("Dockerfile");
    let server = Rc::new(OnceCell::new());
    let version = Rc::new(Cell::new(0));
    let build = Rc::new(move |url: &str| {
        site.ashlar()
            .build(tree, &dockerfile)
            .args(["--cache", url])
    });
    let first = {
        let build = Rc::clone(&build);
        Case::sampled("ashlar, first time", move |run| {
            shared_build(run, &CacheServer::start(), |url| build(url))
        })
    };
    let bumped = Case::sampled("ashlar, bumped", move |run| {
        let server = server.get_or_init(|| {
            let server = CacheServer::start();
            build(&server.url()).run().success().code();
            server
        });
        version.set(version.get() + 1);
        generate::bump_a_package(&tree.join("site-packages"), version.get());
        shared_build(run, server, |url| build(url))
    });
    vec![first, bumped, compressed(site, tree)]
}

/// The tree as a layer is sent otherwise: a compressed tar.
fn compressed<'a>(site: &'a Site, tree: &'a Path) -> Case<'a> {
    Case::sampled("tar | pigz", move |_| {
        let out = site.fresh("compressed");
        let script = "tar --create --file - --directory \"$0\" . | pigz > \"$1\"";
        let output = site
            .command("bash")
            .args(["-o", "pipefail", "-c", script])
            .arg(tree)
            .arg(&out)
            .run();
        output.success();
        Sample {
            time: output.elapsed(),
            bytes: std::fs::metadata(out).ok().map(|file| file.len()),
            ..Sample::default()
        }
    })
}

/// What a server with so much in it takes, and how long it takes until it listens again.
fn filled_server(fill: fn(&Client)) -> Vec<Case<'static>> {
    let lazy = Rc::<Lazy>::default();
    let (filled, started_again) = (Rc::clone(&lazy), lazy);
    let time = Cell::new(None);
    vec![
        Case::sampled("ashlar, filled", move |_| {
            // Once is enough: what is timed is what was timed when it was weighed.
            let client = filled.client();
            if time.get().is_none() {
                time.set(Some(timed(|| fill(client)).time));
            }
            Sample {
                time: time.get().unwrap_or_default(),
                memory: filled.memory(),
                bytes: None,
            }
        }),
        Case::sampled("ashlar, started again", move |_| {
            let time = started_again.with_server(|server| {
                server.terminate().success().code();
                timed(|| server.launch()).time
            });
            // What it reads behind its first answers is to be seen too.
            thread::sleep(Duration::from_secs(3));
            Sample {
                time,
                memory: started_again.memory(),
                bytes: None,
            }
        }),
    ]
}

fn server_results(_: &Site) -> Vec<Case<'_>> {
    filled_server(|client| client.put_results(RESULTS))
}

fn server_blobs(_: &Site) -> Vec<Case<'_>> {
    filled_server(|client| {
        for part in 0..100 {
            client.write_many(small_blobs(1000 + part, SMALL_BLOBS / 100));
        }
    })
}
