use std::fs;
use std::time::Duration;

use ashlar_model::digest::BlobDigest;
use ashlar_model::remote::HttpSource;
use ashlar_source::{FetchedFile, HttpError, HttpFetcher};
use ashlar_test_support::web::{Answer, Page, Site, WebServer};

use crate::support::Lab;

const OLD: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

fn source(url: &str) -> HttpSource {
    HttpSource::parse(url).unwrap()
}

fn with_checksum(url: &str, content: &[u8]) -> HttpSource {
    let mut source = source(url);
    source.checksum = Some(BlobDigest::of(content));
    source
}

/// Resolves and fetches, and gives the bytes.
async fn get(fetcher: &HttpFetcher, source: &HttpSource) -> Result<Vec<u8>, HttpError> {
    let file = fetcher.resolve(source).await?;
    let fetched: FetchedFile = fetcher.fetch(&file).await?;
    let bytes = fs::read(&fetched.path).unwrap();
    assert_eq!(BlobDigest::of(&bytes), file.digest);
    assert_eq!(bytes.len() as u64, fetched.size);
    Ok(bytes)
}

#[tokio::test]
async fn an_unchanged_file_is_fetched_once() {
    let (lab, site) = (Lab::new(), Site::default());
    let web = WebServer::of(&site);
    let source = source(&web.url("/file"));
    let etag = Page::new("content").etag("1").modified(OLD);
    let time = Page::new("content").modified(OLD);
    for page in [etag, time] {
        site.put("/file", page);
        assert_eq!(get(&lab.http(), &source).await.unwrap(), b"content");
        web.take_requests();
        // Another process, later.
        assert_eq!(get(&lab.http(), &source).await.unwrap(), b"content");
        assert_eq!(web.take_lines(), ["HEAD /file"]);
    }
}

#[tokio::test]
async fn a_changed_file_is_fetched_again() {
    let (lab, site) = (Lab::new(), Site::default());
    let web = WebServer::of(&site);
    let source = source(&web.url("/file"));
    site.put("/file", Page::new("one").etag("1"));
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"one");
    site.put("/file", Page::new("two").etag("2"));
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"two");
    // Nothing tells versions apart: it is fetched each time.
    site.put("/file", Page::new("three"));
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"three");
    site.put("/file", Page::new("four"));
    web.take_requests();
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"four");
    assert_eq!(web.take_lines(), ["GET /file"]);
}

#[tokio::test]
async fn servers_without_head_are_asked_by_get() {
    let lab = Lab::new();
    let web = WebServer::start(|request| match request.field("if-none-match") {
        _ if request.method == "HEAD" => Answer::status(405),
        Some("\"1\"") => Answer::status(304),
        _ => Answer::body("content").field("ETag", "\"1\""),
    });
    let source = source(&web.url("/file"));
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"content");
    web.take_requests();
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"content");
    assert_eq!(web.take_lines(), ["HEAD /file", "GET /file"]);
}

#[tokio::test]
async fn with_a_checksum_nobody_is_asked_twice() {
    let (lab, site) = (Lab::new(), Site::default());
    let web = WebServer::of(&site);
    site.put("/file", Page::new("content"));
    let source = with_checksum(&web.url("/file"), b"content");
    let file = lab.http().resolve(&source).await.unwrap();
    assert!(web.take_requests().is_empty());
    lab.http().fetch(&file).await.unwrap();
    assert_eq!(web.take_lines(), ["GET /file"]);
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"content");
    assert!(web.take_requests().is_empty());
}

#[tokio::test]
async fn a_wrong_checksum_is_an_error_and_nothing_is_kept() {
    let (lab, site) = (Lab::new(), Site::default());
    let web = WebServer::of(&site);
    site.put("/file", Page::new("evil"));
    let source = with_checksum(&web.url("/file"), b"good");
    let error = get(&lab.http(), &source).await.unwrap_err();
    assert!(error.is_input());
    assert!(error.to_string().contains("digest mismatch"), "{error}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains(&BlobDigest::of(b"evil").to_string())
    );
    assert_eq!(lab.home.blobs().size_of(&BlobDigest::of(b"good")), None);
    site.put("/file", Page::new("good"));
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"good");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let content = vec![b'x'; 100_000];
    for page in [
        Page::new(&*content).etag("1"),
        Page::new(&*content).modified(OLD),
    ] {
        let (lab, site) = (Lab::new(), Site::default());
        let web = WebServer::of(&site);
        site.put(
            "/file",
            Page {
                breaks_once: true,
                ..page
            },
        );
        let source = source(&web.url("/file"));
        assert_eq!(get(&lab.http(), &source).await.unwrap(), content);
        let requests = web.take_requests();
        assert_eq!(requests.len(), 2);
        assert!(
            requests[1]
                .field("range")
                .is_some_and(|range| range != "bytes=0-")
        );
        assert!(requests[1].field("if-range").is_some());
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_fetched_is_fetched_anew() {
    let (lab, site) = (Lab::new(), Site::default());
    let (first, second) = (vec![b'1'; 100_000], vec![b'2'; 100_000]);
    let changing = site.clone();
    let later = second.clone();
    site.put(
        "/file",
        Page {
            breaks_once: true,
            ..Page::new(&*first).etag("1")
        },
    );
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let web = WebServer::start(move |request| {
        if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1 {
            changing.put("/file", Page::new(&*later).etag("2"));
        }
        changing.answer(request)
    });
    let source = source(&web.url("/file"));
    assert_eq!(get(&lab.http(), &source).await.unwrap(), second);
}

#[tokio::test]
async fn without_validators_half_a_file_is_worth_nothing() {
    let (lab, site) = (Lab::new(), Site::default());
    let web = WebServer::of(&site);
    site.put(
        "/file",
        Page {
            breaks_once: true,
            ..Page::new("some content")
        },
    );
    let url = web.url("/file");
    assert_eq!(
        get(&lab.http(), &source(&url)).await.unwrap(),
        b"some content"
    );
    assert!(
        web.take_requests()
            .iter()
            .all(|request| request.field("range").is_none())
    );
    // But a checksum tells in the end.
    site.put(
        "/sum",
        Page {
            breaks_once: true,
            ..Page::new("some content!")
        },
    );
    let source = with_checksum(&web.url("/sum"), b"some content!");
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"some content!");
    assert_eq!(web.take_requests()[1].field("range"), Some("bytes=6-"));
}

#[tokio::test]
async fn errors_that_may_pass_are_waited_out_and_others_are_told() {
    let lab = Lab::new();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let web = WebServer::start(move |request| match request.target.as_str() {
        "/busy" if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 => {
            Answer::status(503)
        }
        "/busy" => Answer::body("content").after(Duration::from_millis(10)),
        "/broken" => Answer::status(500),
        "/private" => Answer::status(403),
        "/half" => Answer::body("0123456789").cut_after(5),
        "/moved" => Answer::status(302).field("Location", "/busy"),
        _ => Answer::status(404),
    });
    let of = |path: &str| source(&web.url(path));
    assert_eq!(get(&lab.http(), &of("/busy")).await.unwrap(), b"content");
    assert_eq!(get(&lab.http(), &of("/moved")).await.unwrap(), b"content");
    for (path, message, hint, is_input) in [
        (
            "/missing",
            "invalid response status 404",
            "check the URL",
            true,
        ),
        (
            "/broken",
            "invalid response status 500",
            "try again later",
            false,
        ),
        (
            "/private",
            "invalid response status 403",
            "HTTP_AUTH_TOKEN_127.0.0.1",
            true,
        ),
        (
            "/half",
            "broke off after 5 bytes, 3 times",
            "network",
            false,
        ),
    ] {
        let error = get(&lab.http(), &of(path)).await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{error:?}");
        assert_eq!(error.is_input(), is_input, "{path}");
    }
    assert_eq!(
        web.take_lines()
            .iter()
            .filter(|line| line.contains("missing"))
            .count(),
        1
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_credentials() {
    let lab = Lab::new();
    let port = ashlar_test_support::registry::free_port();
    let source = source(&format!("http://user:hunter2@127.0.0.1:{port}/x"));
    let error = get(&lab.http(), &source).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        text.contains(&port.to_string()) && !text.contains("hunter2"),
        "{text}"
    );
    assert!(!error.is_input());
}

#[tokio::test]
async fn logins_come_from_secrets() {
    let site = Site::default();
    let web = WebServer::of(&site);
    site.put(
        "/file",
        Page {
            authorization: Some("Bearer t0ken".to_owned()),
            ..Page::new("content").etag("1")
        },
    );
    let source = source(&web.url("/file"));
    let error = get(&Lab::new().http(), &source).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    let lab = Lab::with_secrets(&[("HTTP_AUTH_TOKEN_127.0.0.1", "t0ken\n")]);
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"content");
    assert_eq!(get(&lab.http(), &source).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_blob_that_was_pruned_is_fetched_again_if_it_is_needed() {
    let (lab, site) = (Lab::new(), Site::default());
    let web = WebServer::of(&site);
    site.put("/file", Page::new("content").etag("1"));
    let source = source(&web.url("/file"));
    let file = lab.http().resolve(&source).await.unwrap();
    lab.home.blobs().forget(&file.digest).unwrap();
    web.take_requests();
    assert_eq!(lab.http().resolve(&source).await.unwrap(), file);
    assert_eq!(web.take_lines(), ["HEAD /file"]);
    lab.http().fetch(&file).await.unwrap();
    assert_eq!(web.take_lines(), ["GET /file"]);
    // Meanwhile it may have become another one.
    lab.home.blobs().forget(&file.digest).unwrap();
    site.put("/file", Page::new("other").etag("2"));
    let error = lab.http().fetch(&file).await.unwrap_err();
    assert!(!error.is_input(), "{error}");
    assert!(error.hint().unwrap().contains("changed during the build"));
}

#[tokio::test]
async fn several_at_once_download_once() {
    let lab = Lab::new();
    let web = WebServer::start(|_| Answer::body("content").after(Duration::from_millis(50)));
    let source = with_checksum(&web.url("/file"), b"content");
    let fetchers: Vec<HttpFetcher> = (0..4).map(|_| lab.http()).collect();
    let all = futures::future::join_all(fetchers.iter().map(|one| get(one, &source))).await;
    assert!(all.into_iter().all(|bytes| bytes.unwrap() == b"content"));
    assert_eq!(web.take_lines(), ["GET /file"]);
}

#[tokio::test]
async fn a_file_has_its_name_mode_and_the_servers_time() {
    use std::os::unix::fs::MetadataExt as _;
    let (lab, site) = (Lab::new(), Site::default());
    let web = WebServer::of(&site);
    site.put("/timed", Page::new("x").modified(OLD));
    site.put("/plain", Page::new("y"));
    for (name, seconds, told) in [("timed", 1_445_412_480, true), ("plain", 0, false)] {
        let file = lab
            .http()
            .resolve(&source(&web.url(&format!("/{name}"))))
            .await
            .unwrap();
        for _ in 0..2 {
            let made = lab.http().fetch_directory(&file).await.unwrap();
            assert_eq!(made.modified.is_some(), told);
            let metadata = fs::metadata(made.path.join(name)).unwrap();
            assert_eq!(metadata.mode() & 0o7777, 0o600);
            assert_eq!(metadata.mtime(), seconds);
            assert_eq!(fs::read_dir(&made.path).unwrap().count(), 1);
        }
    }
}

#[tokio::test]
async fn a_directory_in_use_is_not_made_again() {
    use std::os::unix::fs::MetadataExt as _;
    let (lab, site) = (Lab::new(), Site::default());
    let web = WebServer::of(&site);
    site.put("/file", Page::new("content"));
    let file = lab
        .http()
        .resolve(&with_checksum(&web.url("/file"), b"content"))
        .await
        .unwrap();
    let fetchers: Vec<HttpFetcher> = (0..4).map(|_| lab.http()).collect();
    let inode = async |fetcher: &HttpFetcher| {
        let made = fetcher.fetch_directory(&file).await.unwrap();
        fs::metadata(made.path).unwrap().ino()
    };
    let inodes = futures::future::join_all(fetchers.iter().map(inode)).await;
    assert!(inodes.iter().all(|one| *one == inodes[0]), "{inodes:?}");
    assert_eq!(web.take_lines(), ["GET /file"]);
}
