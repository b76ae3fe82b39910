//! Secrets that come neither by ADS nor in files of resources: from services of their own, and made of files of bytes.
//!
//! A secret whose parts are in files is delivered to the compiler when all of them were read, and again after each
//! change. Parts that do not fit each other (a new certificate whose key is still the old one) are refused there, and the
//! last secret serves on until the other file has come.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use ringsail_tables::compile::FileSecret;
use ringsail_tables::{Change, ResourceType, Str};
use ringsail_xds::envoy::config::bootstrap::v3::Bootstrap as Message;
use ringsail_xds::envoy::config::core::v3::DataSource;
use ringsail_xds::envoy::config::core::v3::Node;
use ringsail_xds::envoy::config::core::v3::data_source::Specifier;
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use ringsail_xds::prost::Message as _;
use ringsail_xds::protocol::client::{self, Client};
use ringsail_xds::protocol::{Interest, Request, Variant};
use ringsail_xds::type_url;
use tokio::sync::mpsc;

use super::main_loop::Loop;
use super::update::Update;
use crate::ads::{self, AdsEvent};
use crate::bootstrap::{Bootstrap, source};
use crate::file::Bits;

/// What happened on the stream to the service in this cluster.
pub(super) type Event = (String, AdsEvent);

/// Their state.
pub(super) struct Secrets {
    bootstrap: Message,
    node: Node,
    events: mpsc::Sender<Event>,
    streams: BTreeMap<String, Stream>,
    /// Names of the bootstrap's own.
    statics: BTreeSet<String>,
    /// Those of them that are in files.
    static_files: Vec<FileSecret>,
    /// All that are made of files.
    wanted: Vec<FileSecret>,
    bytes: BTreeMap<PathBuf, Bytes>,
}

/// A stream to one service; it ends with this.
struct Stream {
    client: Client,
    requests: Option<mpsc::UnboundedSender<Request>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Secrets {
    pub(super) fn new(bootstrap: &Bootstrap, events: mpsc::Sender<Event>) -> Secrets {
        let message = bootstrap.message();
        let all: Vec<&Secret> =
            message.static_resources.iter().flat_map(|resources| &resources.secrets).collect();
        let static_files = all.iter().filter(|secret| !files_of(secret).is_empty()).map(|secret| {
            FileSecret { name: Str::new(&secret.name), message: secret.encode_to_vec().into() }
        });
        Secrets {
            static_files: static_files.collect(),
            statics: all.iter().map(|secret| secret.name.clone()).collect(),
            node: bootstrap.node.clone(),
            bootstrap: message,
            events,
            streams: BTreeMap::new(),
            wanted: Vec::new(),
            bytes: BTreeMap::new(),
        }
    }

    /// Whether a secret is one of the bootstrap.
    pub(super) fn is_static(&self, name: &str) -> bool {
        self.statics.contains(name)
    }

    /// The files that secrets are made of.
    pub(super) fn files(&mut self, wanted: &[FileSecret]) -> BTreeSet<PathBuf> {
        self.wanted = self.static_files.iter().chain(wanted).cloned().collect();
        let secrets = self.wanted.iter().filter_map(|one| Secret::decode(one.message.clone()).ok());
        let files: BTreeSet<PathBuf> = secrets.flat_map(|secret| files_of(&secret)).collect();
        self.bytes.retain(|path, _| files.contains(path));
        files
    }

    /// Opens, keeps and ends streams, and asks for these names on them.
    pub(super) fn follow(&mut self, wanted: BTreeMap<String, BTreeSet<String>>) {
        self.streams.retain(|cluster, _| wanted.contains_key(cluster));
        for (cluster, names) in wanted {
            if !self.streams.contains_key(&cluster) {
                match source::secret_service(&self.bootstrap, &cluster) {
                    Ok(service) => {
                        let stream = self.open(&cluster, service);
                        self.streams.insert(cluster.clone(), stream);
                    }
                    Err(reason) => {
                        tracing::warn!("secrets {names:?}: {reason}");
                        continue;
                    }
                }
            }
            if let Some(stream) = self.streams.get_mut(&cluster) {
                stream.client.subscribe(type_url::SECRET, Interest { wildcard: false, names });
                stream.send_requests();
            }
        }
    }

    fn open(&self, cluster: &str, service: crate::bootstrap::AdsSource) -> Stream {
        let (sender, mut events) = mpsc::channel(1);
        let (all, name) = (self.events.clone(), cluster.to_owned());
        let task = tokio::task::spawn_local(async move {
            let running = ads::run(service, sender);
            let passing = async {
                while let Some(event) = events.recv().await {
                    if all.send((name.clone(), event)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(running, passing);
        });
        Stream { client: Client::new(Variant::StateOfTheWorld, self.node.clone()), requests: None, task }
    }

    /// Acknowledges or refuses what a service has sent.
    pub(super) fn answer(&mut self, cluster: &str, response: &client::Update, refused: &[&str], text: &str) {
        let Some(stream) = self.streams.get_mut(cluster) else { return };
        if refused.is_empty() {
            stream.client.accept(response);
        } else {
            stream.client.reject(response, refused, text);
        }
        stream.send_requests();
    }

    /// The secrets that hold a file and whose files have all been read.
    fn with(&self, path: &PathBuf) -> Vec<Change> {
        let made = self.wanted.iter().filter_map(|one| {
            let mut secret = Secret::decode(one.message.clone()).ok()?;
            if !files_of(&secret).contains(path) {
                return None;
            }
            for source in sources(&mut secret) {
                if let Some(Specifier::Filename(name)) = &source.specifier {
                    let bytes = self.bytes.get(&PathBuf::from(name))?;
                    source.specifier = Some(Specifier::InlineBytes(bytes.to_vec()));
                }
            }
            let resource = secret.encode_to_vec().into();
            Some(Change::Put { kind: ResourceType::Secret, name: one.name.to_string(), resource })
        });
        made.collect()
    }
}

impl Stream {
    fn send_requests(&mut self) {
        let Some(requests) = &self.requests else { return };
        while let Some(request) = self.client.poll() {
            // A stream that has ended says so by an event of its own.
            let _ = requests.send(request);
        }
    }
}

impl Loop {
    pub(super) fn secrets_event(&mut self, (cluster, event): Event) {
        let Some(stream) = self.secrets.streams.get_mut(&cluster) else { return };
        match event {
            AdsEvent::Connected(requests) => {
                tracing::info!(cluster, "connected to a service of secrets");
                stream.requests = Some(requests);
                stream.client.connected();
                stream.send_requests();
            }
            AdsEvent::Response(response) => match stream.client.received(response) {
                Ok(update) => {
                    let update = Update::from_secrets(cluster, update, &self.state.borrow().store);
                    self.push(update);
                }
                Err(reason) => tracing::warn!(cluster, "ignored: {reason}"),
            },
            AdsEvent::Disconnected(reason) => {
                tracing::warn!(cluster, reason, "no service of secrets; what was received stays in use");
                stream.client.disconnected();
                stream.requests = None;
            }
        }
    }

    pub(super) fn secret_file(&mut self, path: PathBuf, bytes: Bits) {
        match bytes {
            Ok(bytes) => drop(self.secrets.bytes.insert(path.clone(), bytes)),
            Err(error) => {
                tracing::warn!("{error}; what was read before stays in use");
                return;
            }
        }
        let changes = self.secrets.with(&path);
        if !changes.is_empty() {
            self.push(Update::answers(changes));
        }
    }
}

/// The files that parts of a secret are in.
pub(super) fn files_of(secret: &Secret) -> BTreeSet<PathBuf> {
    let mut secret = secret.clone();
    let files = sources(&mut secret).into_iter().filter_map(|source| match &source.specifier {
        Some(Specifier::Filename(name)) => Some(PathBuf::from(name)),
        _ => None,
    });
    files.collect()
}

/// Everything in a secret that may be in a file.
fn sources(message: &mut Secret) -> Vec<&mut DataSource> {
    match &mut message.r#type {
        Some(secret::Type::TlsCertificate(certificate)) => [
            &mut certificate.certificate_chain,
            &mut certificate.private_key,
            &mut certificate.password,
            &mut certificate.ocsp_staple,
        ]
        .into_iter()
        .flatten()
        .collect(),
        Some(secret::Type::ValidationContext(context)) => {
            [&mut context.trusted_ca, &mut context.crl].into_iter().flatten().collect()
        }
        Some(secret::Type::SessionTicketKeys(keys)) => keys.keys.iter_mut().collect(),
        Some(secret::Type::GenericSecret(_)) | None => Vec::new(),
    }
}
