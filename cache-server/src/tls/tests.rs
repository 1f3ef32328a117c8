//! TLS over real sockets: certificates of clients, and files that change under open connections.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ashlar_store::clock;
use futures::{Stream, StreamExt as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::server::Connected as _;

use super::{Accepted, Tls, incoming};
use crate::audit::{Audit, Outcome, Queue, What};
use crate::listen::Listener;
use crate::settings::TlsFiles;
use crate::settings::value::{Listen, Mode};

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn pair(&self, names: &[&str]) -> Pair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(&CertificateParams::new(names).expect("names"))
    }
}

/// A server that can be connected to, and its files.
struct Server {
    folder: tempfile::TempDir,
    tls: Tls,
    address: String,
    connections: std::pin::Pin<Box<dyn Stream<Item = std::io::Result<Accepted>> + Send>>,
    events: Queue,
}

impl Server {
    async fn new(pair: &Pair, clients: Option<&Authority>, required: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles {
            certificate: path("cert"),
            key: path("key"),
            client_ca: clients.map(|_| path("ca")),
            client_required: required,
        };
        std::fs::write(&files.certificate, &pair.certificate).expect("written");
        std::fs::write(&files.key, &pair.key).expect("written");
        if let Some(authority) = clients {
            std::fs::write(path("ca"), authority.pem()).expect("written");
        }
        let tls = Tls::load(&files).expect("TLS");
        let listen = Listen::Tcp("127.0.0.1:0".to_owned());
        let addresses = crate::listen::resolve(&listen).await.expect("addresses");
        let listener = Listener::bind(&listen, &addresses, Mode::default()).await;
        let listener = listener.expect("listening");
        let address = listener.address();
        let (audit, events) = Audit::queue(16, clock::system());
        let connections = Box::pin(incoming(listener, 10, Some(tls.clone()), audit));
        Self {
            folder,
            tls,
            address,
            connections,
            events,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).expect("written");
    }

    /// Both ends of a new connection; `None` if it does not come about.
    async fn connect(&mut self, client: &Client) -> Option<(TlsStream<TcpStream>, Accepted)> {
        let connecting = client.connect(&self.address);
        let next = self.connections.next();
        let both = async { tokio::join!(connecting, next) };
        let (stream, accepted) = tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .ok()?;
        Some((stream.ok()?, accepted?.ok()?))
    }

    /// Waits until somebody was refused, and why.
    async fn refusal(&mut self, client: &Client) -> String {
        let connecting = client.try_talk(&self.address);
        let mut connecting = std::pin::pin!(connecting);
        let mut is_over = false;
        loop {
            if let Some(event) = self.events.next_event() {
                assert_eq!(
                    (event.what, event.outcome),
                    (What::Connection, Outcome::Refused)
                );
                assert!(event.address.is_some());
                return event.reason.expect("a reason");
            }
            tokio::select! {
                talked = &mut connecting, if !is_over => {
                    talked.expect_err("refused");
                    is_over = true;
                }
                _ = self.connections.next() => panic!("it was let in"),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    }
}

struct Client {
    connector: TlsConnector,
}

impl Client {
    fn new(trusted: &Authority, pair: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(trusted.pem().as_bytes()) {
            roots.add(root.expect("a certificate")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
                let chain = chain.collect::<Result<_, _>>().expect("a chain");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    async fn connect(&self, address: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        self.connector.connect(name, stream).await
    }

    /// A server may refuse a certificate after the client is done.
    async fn try_talk(&self, address: &str) -> std::io::Result<()> {
        let mut stream = self.connect(address).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await.map(drop)
    }
}

/// Whether bytes go both ways.
async fn talk(client: &mut TlsStream<TcpStream>, server: &mut Accepted) {
    client.write_all(b"to").await.expect("sent");
    client.flush().await.expect("sent");
    let mut buffer = [0; 2];
    server.read_exact(&mut buffer).await.expect("received");
    assert_eq!(&buffer, b"to");
    server.write_all(b"fro").await.expect("sent");
    server.flush().await.expect("sent");
    let mut buffer = [0; 3];
    client.read_exact(&mut buffer).await.expect("received");
    assert_eq!(&buffer, b"fro");
}

/// The certificate that a client has shown the server.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let certificates = stream.get_ref().1.peer_certificates();
    certificates.expect("a certificate")[0].to_vec()
}

#[tokio::test]
async fn a_client_without_a_certificate_comes_in_unless_it_has_to_have_one() {
    let authority = Authority::new("all");
    let pair = authority.pair(&["localhost"]);
    let client = Client::new(&authority, None);
    let mut server = Server::new(&pair, Some(&authority), false).await;
    let (mut near, mut far) = server.connect(&client).await.expect("connected");
    assert_eq!(near.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    talk(&mut near, &mut far).await;
    let peer = far.connect_info();
    assert!(peer.certificate.is_none() && peer.address.starts_with("127.0.0.1:"));

    let mut server = Server::new(&pair, Some(&authority), true).await;
    let reason = server.refusal(&client).await;
    assert!(reason.contains("no certificate"), "{reason}");
}

#[tokio::test]
async fn a_certificate_says_who_the_client_is() {
    let authority = Authority::new("all");
    let pair = authority.pair(&["localhost"]);
    let mut server = Server::new(&pair, Some(&authority), true).await;
    let mut params = CertificateParams::new(["builder-1.example".to_owned()]).expect("names");
    let uri = "spiffe://farm/builder".try_into().expect("a URI");
    params.subject_alt_names.push(SanType::URI(uri));
    let wild = "*.example".try_into().expect("a name");
    params.subject_alt_names.push(SanType::DnsName(wild));
    params.distinguished_name.push(DnType::CommonName, "admin");
    let mut common = CertificateParams::default();
    common
        .distinguished_name
        .push(DnType::CommonName, "builder-2");
    for (params, names) in [
        (params, &["builder-1.example", "spiffe://farm/builder"][..]),
        (common, &["builder-2"]),
    ] {
        let client = Client::new(&authority, Some(&authority.sign(&params)));
        let (mut near, mut far) = server.connect(&client).await.expect("connected");
        talk(&mut near, &mut far).await;
        let certificate = far.connect_info().certificate.expect("a certificate");
        let found: Vec<_> = certificate.names().iter().map(|name| &name.text).collect();
        assert_eq!(found, names);
        certificate.check((clock::system())()).expect("it counts");
    }
}

#[tokio::test]
async fn certificates_of_others_or_of_another_time_are_refused() {
    let (authority, stranger) = (Authority::new("all"), Authority::new("stranger"));
    let pair = authority.pair(&["localhost"]);
    let mut server = Server::new(&pair, Some(&authority), false).await;
    let foreign = stranger.pair(&["builder-1.example"]);
    let mut old = CertificateParams::new(["builder-1.example".to_owned()]).expect("names");
    old.not_after = date_time_ymd(2020, 1, 1);
    let mut early = CertificateParams::new(["builder-1.example".to_owned()]).expect("names");
    early.not_before = date_time_ymd(3020, 1, 1);
    for (pair, why) in [
        (foreign, "UnknownIssuer"),
        (authority.sign(&old), "xpired"),
        (authority.sign(&early), "not valid yet"),
    ] {
        let client = Client::new(&authority, Some(&pair));
        let reason = server.refusal(&client).await;
        assert!(reason.contains(why), "{why}: {reason}");
    }
}

#[tokio::test]
async fn new_connections_use_new_files_and_old_ones_go_on() {
    let authority = Authority::new("all");
    let client = Client::new(&authority, None);
    let mut server = Server::new(&authority.pair(&["localhost"]), None, false).await;
    let (mut near, mut far) = server.connect(&client).await.expect("connected");
    let next = authority.pair(&["localhost"]);
    server.write("cert", &next.certificate);
    let error = server.tls.reload().expect_err("the key is the old one");
    assert!(
        error.to_string().ends_with("are no certificate and key"),
        "{error}"
    );
    let (second, _) = server.connect(&client).await.expect("as before");
    assert_eq!(shown(&second), shown(&near));

    assert!(
        server.tls.ends() > (clock::system())(),
        "in two thousand years"
    );
    server.write("key", &next.key);
    server.tls.reload().expect("both are there");
    let (third, _) = server.connect(&client).await.expect("connected");
    assert_ne!(shown(&third), shown(&near));
    talk(&mut near, &mut far).await;

    for (name, text) in [
        ("cert", ""),
        ("key", "nonsense"),
        ("cert", "-----BEGIN CERTIFICATE-----\n"),
    ] {
        server.write("cert", &next.certificate);
        server.write("key", &next.key);
        server.write(name, text);
        server.tls.reload().expect_err("no good");
    }
    std::fs::remove_file(server.file("cert")).expect("removed");
    server.tls.reload().expect_err("gone");
    let (fourth, _) = server.connect(&client).await.expect("connected");
    assert_eq!(shown(&fourth), shown(&third));
}

#[tokio::test]
async fn who_is_not_trusted_any_more_may_nothing_over_an_old_connection() {
    let (authority, next) = (Authority::new("all"), Authority::new("next"));
    let mut server = Server::new(&authority.pair(&["localhost"]), Some(&authority), false).await;
    let client = Client::new(&authority, Some(&authority.pair(&["builder-1.example"])));
    let (_near, far) = server.connect(&client).await.expect("connected");
    let certificate = far.connect_info().certificate.expect("a certificate");
    let now = (clock::system())();
    certificate.check(now).expect("it counts");
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(80_000_000_000);
    certificate.check(later).expect_err("it is over then");

    server.write("ca", &format!("{}{}", authority.pem(), next.pem()));
    server.tls.reload().expect("both");
    certificate.check(now).expect("still");
    server.write("ca", &next.pem());
    server.tls.reload().expect("the next one");
    certificate.check(now).expect_err("of nobody");
    let reason = server.refusal(&client).await;
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}

#[tokio::test]
async fn a_client_that_is_slow_holds_nobody_up() {
    let authority = Authority::new("all");
    let mut server = Server::new(&authority.pair(&["localhost"]), None, false).await;
    let _silent = TcpStream::connect(&server.address)
        .await
        .expect("connected");
    let mut noisy = TcpStream::connect(&server.address)
        .await
        .expect("connected");
    noisy
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    let client = Client::new(&authority, None);
    let (mut near, mut far) = server.connect(&client).await.expect("connected");
    talk(&mut near, &mut far).await;
}
