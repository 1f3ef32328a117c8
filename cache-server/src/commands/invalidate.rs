//! `ashlar-cache invalidate`.

use std::fs;
use std::path::PathBuf;

use ashlar_model::error_chain::error_chain;
use ashlar_proto::wire::ext::admin_client::AdminClient;
use ashlar_proto::wire::ext::invalidate_request::What;
use ashlar_proto::wire::ext::{InvalidateRequest, InvalidateResponse};
use ashlar_store::grpc::endpoint::tuned;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use super::{print, runtime};
use crate::cli::InvalidateArgs;
use crate::failure::Failure;
use crate::limits;
use crate::settings::env::Environment;

/// Where systems keep the authorities that they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Asks a server to remove results.
pub fn run(args: &InvalidateArgs, environment: &Environment) -> Result<u8, Failure> {
    if args.reason.len() > limits::REASON {
        return Err(Failure::new(format!(
            "--reason has {} bytes; a reason has no more than {}",
            args.reason.len(),
            limits::REASON
        ))
        .as_usage());
    }
    let token = args.token_file.as_ref().map(token).transpose()?;
    let endpoint = endpoint(args, environment)?;
    let mut request = Request::new(InvalidateRequest {
        reason: args.reason.clone(),
        dry_run: args.dry_run,
        what: Some(what(args)),
    });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", token);
    }
    let asked = runtime()?.block_on(async {
        let channel = endpoint.connect().await.map_err(|error| {
            Failure::new(format!("cannot reach {}", args.server))
                .caused_by(error_chain(&error))
                .hinted("look whether the server runs there, and whether it speaks TLS (grpcs://)")
        })?;
        let mut client: AdminClient<Channel> = AdminClient::new(channel);
        let asked = client.invalidate(request).await;
        asked.map_err(|status| refused(&args.server, &status))
    });
    let response = asked?.into_inner();
    print(&rendered(response, args.dry_run));
    Ok(0)
}

fn what(args: &InvalidateArgs) -> What {
    if let Some(id) = &args.what.signer {
        return What::Signer(id.clone());
    }
    if let Some(key) = &args.what.key {
        return What::StepKey(key.clone());
    }
    What::InstancePrefix(args.what.prefix.clone().unwrap_or_default())
}

/// The first token of a file, as it is sent.
fn token(path: &PathBuf) -> Result<MetadataValue<Ascii>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("cannot read the token file {}", path.display()))
            .caused_by(error)
            .as_usage()
    })?;
    let mut lines = text.lines().map(str::trim);
    let token = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let header = token.and_then(|token| format!("Bearer {token}").parse().ok());
    let mut header: MetadataValue<Ascii> = header.ok_or_else(|| {
        Failure::new(format!("the token file {} has no token", path.display()))
            .as_usage()
            .hinted("write the token on a line of its own")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn pem(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| {
        Failure::new(format!("cannot read {}", path.display()))
            .caused_by(error)
            .as_usage()
    })
}

/// Where the server is, and whom to believe that it is that one.
fn endpoint(args: &InvalidateArgs, environment: &Environment) -> Result<Endpoint, Failure> {
    let wrong = || {
        Failure::new(format!("`{}` is no address of a server", args.server))
            .as_usage()
            .hinted("write grpc://HOST:PORT, grpcs://HOST:PORT for TLS, or unix:///PATH")
    };
    let (scheme, rest) = args.server.split_once("://").ok_or_else(wrong)?;
    let (uri, has_tls) = match scheme {
        "grpc" => (format!("http://{rest}"), false),
        "grpcs" => (format!("https://{rest}"), true),
        "unix" => (args.server.clone(), false),
        _ => return Err(wrong()),
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| wrong())?;
    // Whoever looks through a large store answers late.
    let endpoint = tuned(endpoint).connect_timeout(std::time::Duration::from_secs(10));
    if !has_tls {
        return match (&args.ca, &args.tls_cert) {
            (None, None) => Ok(endpoint),
            _ => Err(
                Failure::new("--ca, --tls-cert and --tls-key are for grpcs:// servers").as_usage(),
            ),
        };
    }
    let authorities = match &args.ca {
        Some(path) => pem(path)?,
        None => pem(&system_bundle(environment)?)?,
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities));
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        tls = tls.identity(Identity::from_pem(pem(certificate)?, pem(key)?));
    }
    endpoint.tls_config(tls).map_err(|error| {
        Failure::new(format!("TLS cannot be used with {}", args.server))
            .caused_by(error_chain(&error))
            .as_usage()
    })
}

fn system_bundle(environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(file) = environment.variable("SSL_CERT_FILE") {
        return Ok(PathBuf::from(file));
    }
    let bundles = SYSTEM_BUNDLES.map(PathBuf::from);
    let found = bundles.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::new("this system has no certificates of authorities")
            .as_usage()
            .hinted("name those that the server's certificate leads up to by --ca FILE")
    })
}

/// What a server said instead of doing it.
fn refused(server: &str, status: &Status) -> Failure {
    let failure = Failure::new(format!("{server} did not invalidate"));
    let failure = failure.caused_by(match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    });
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => failure.hinted(
            "a rule of the server has to give the right admin to the token (--token-file) or the \
             certificate (--tls-cert)",
        ),
        Code::Unimplemented => failure.hinted("is it an ashlar-cache, and not an older one?"),
        Code::InvalidArgument => failure.as_usage(),
        _ => failure.hinted("what was removed stays removed: run it again to do the rest"),
    }
}

fn rendered(response: InvalidateResponse, dry_run: bool) -> String {
    let InvalidateResponse { removed, looked_at } = response;
    let verb = if dry_run { "would remove" } else { "removed" };
    format!("{verb} {removed} of {looked_at} results\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told() {
        let response = InvalidateResponse {
            removed: 3,
            looked_at: 1200,
        };
        assert_eq!(rendered(response, false), "removed 3 of 1200 results\n");
        assert_eq!(rendered(response, true), "would remove 3 of 1200 results\n");
    }

    #[test]
    fn who_is_refused_learns_what_to_ask_for() {
        let status = Status::permission_denied("this cache does not let you look after the cache");
        let text = refused("grpc://cache:8980", &status).render();
        assert!(
            text.starts_with("error: grpc://cache:8980 did not invalidate\n"),
            "{text}"
        );
        assert!(text.contains("hint: a rule of the server"), "{text}");
        assert_eq!(refused("s", &Status::invalid_argument("x")).code, 2);
    }
}
