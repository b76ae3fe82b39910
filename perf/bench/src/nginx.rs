//! nginx doing the same job.

use std::path::Path;

use crate::bootstrap::endpoints;
use crate::process::Folder;
use crate::scenario::{Protocol, Scenario};

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Whether this nginx can proxy TCP.
pub fn has_stream_module() -> bool {
    Path::new(STREAM_MODULE).is_file()
}

/// The configuration for `scenario`, listening on `port` of the loopback address.
pub fn configuration(scenario: &Scenario, port: u16, folder: &Folder) -> String {
    let file = |name: &str| folder.file(&format!("nginx-{port}-{name}")).display().to_string();
    let common = format!(
        "worker_processes 1; daemon off; pid {}; error_log {} crit; worker_rlimit_nofile 19900;\n\
         events {{ worker_connections 19000; multi_accept on; }}\n",
        file("pid"),
        file("error")
    );
    let upstream = scenario.upstream_port;
    if scenario.protocol == Protocol::Tcp {
        return format!(
            "load_module {STREAM_MODULE};\n{common}\
             stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{upstream}; tcp_nodelay on; }} }}\n"
        );
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {};\n", file(kind)))
        .collect();
    let forward = |to: &str| {
        format!(
            "location / {{ proxy_pass http://{to}; proxy_http_version 1.1; \
             proxy_set_header Connection ''; proxy_set_header Host $host; client_max_body_size 0; }}"
        )
    };
    let further: String = (0..scenario.clusters)
        .map(|index| {
            let servers: String =
                endpoints(index).iter().map(|(address, port)| format!("server {address}:{port}; ")).collect();
            format!(
                "upstream svc-{index} {{ {servers} keepalive 8; }}\n\
                 server {{ listen 127.0.0.1:{port}; server_name svc-{index}.shop.svc.cluster.local svc-{index} \
                 svc-{index}.shop svc-{index}.shop.svc; {} }}\n",
                forward(&format!("svc-{index}"))
            )
        })
        .collect();
    let own: String = (0..scenario.hosts)
        .map(|index| {
            let (name, location) = (Scenario::host(index), forward("bench"));
            format!("server {{ listen 127.0.0.1:{port}; server_name {name}; {location} }}\n")
        })
        .collect();
    let access_log = match &scenario.access_log {
        Some(file) => format!("{} combined", file.display()),
        None => "off".to_string(),
    };
    let http2 = if scenario.protocol.is_http2() { " http2" } else { "" };
    format!(
        "{common}http {{ access_log {access_log}; keepalive_requests 100000000; keepalive_timeout 3600s;\n\
         server_names_hash_max_size 65536; server_names_hash_bucket_size 128;\n{temporary}\
         upstream bench {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}\n\
         server {{ listen 127.0.0.1:{port}{http2} default_server backlog=4096; server_name bench.local; {} }}\n\
         {own}{further}}}\n",
        forward("bench")
    )
}
