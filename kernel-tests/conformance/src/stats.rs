//! Statistics: which of Envoy's names ringsail-proxy lacks, and which values may differ for the same traffic.

/// Names that Envoy shows and we do not.
pub struct Missing {
    /// A name, with `*` for any part of it; clusters and connection managers are called `app`, listeners `ADDRESS`.
    pub names: &'static str,
    /// Why.
    pub reason: &'static str,
}

const fn missing(names: &'static str, reason: &'static str) -> Missing {
    Missing { names, reason }
}

const NO_ZONES: &str = "kept by Envoy's zone-aware balancer and its subsets; here they are no separate steps";
const NO_HTTP3: &str = "HTTP/3 is not spoken";
const NO_ADMIN: &str = "the admin endpoint is no listener here";
const NO_BUFFERS: &str = "bytes wait in the kernel, not in buffers of a connection";
const NO_CODEC: &str = "refused requests are counted as protocol errors of their connection manager";
const NO_WATCHDOG: &str = "threads are not watched";
const NO_RUNTIME: &str = "there is no runtime layer to change";

/// Every gap; one that is closed fails the test until its line is gone.
pub const MISSING: &[Missing] = &[
    missing("cluster.app.assignment_*", "assignments here do not expire"),
    missing("cluster.app.bind_errors", "counted as connect failures"),
    missing(
        "cluster.app.circuit_breakers.high.*",
        "limits of priority HIGH hold, their gauges are not shown",
    ),
    missing("cluster.app.default.*", "metadata of transport sockets is matched without a counter"),
    missing("cluster.app.external.*", "answers are counted once, not again by where the request came from"),
    missing("cluster.app.internal.*", "answers are counted once, not again by where the request came from"),
    missing("cluster.app.http1.*", NO_CODEC),
    missing("cluster.app.lb_*", NO_ZONES),
    missing("cluster.app.max_host_weight", NO_ZONES),
    missing("cluster.app.original_dst_host_invalid", "such a request is counted as one without a host"),
    missing("cluster.app.retry.*", "answers that were retried are counted in `upstream_rq_retry`"),
    missing("cluster.app.retry_or_shadow_abandoned", "counted in `upstream_rq_retry_overflow`"),
    missing("cluster.app.upstream_cx_connect_with_0_rtt", NO_HTTP3),
    missing("cluster.app.upstream_cx_http3_total", NO_HTTP3),
    missing("cluster.app.upstream_http3_broken", NO_HTTP3),
    missing("cluster.app.upstream_rq_0rtt", NO_HTTP3),
    missing("cluster.app.upstream_cx_max_duration_reached", "counted in `upstream_cx_max_requests`"),
    missing("cluster.app.upstream_cx_preconnect_skipped", "connections are not made in advance"),
    missing("cluster.app.upstream_cx_?x_bytes_buffered", NO_BUFFERS),
    missing("cluster.app.upstream_flow_control_backed_up_total", NO_BUFFERS),
    missing("cluster.app.upstream_flow_control_drained_total", NO_BUFFERS),
    missing("cluster.app.upstream_queue_overloaded", "there is no overload manager"),
    missing("cluster.app.upstream_rq_active_overflow", "counted in `upstream_rq_pending_overflow`"),
    missing("cluster.app.upstream_rq_per_cx", "not recorded"),
    missing("cluster.app.upstream_rq_rx_reset_no_error", "counted in `upstream_rq_rx_reset`"),
    missing("cluster.app.version", "endpoints are versioned with the tables"),
    missing(
        "cluster.app.warming_state",
        "clusters that warm are counted in `cluster_manager.warming_clusters`",
    ),
    missing("cluster_manager.*merge*", "updates are not delayed to be merged"),
    missing("envoy.overload_actions.*", "there is no overload manager"),
    missing("overload.*", "there is no overload manager"),
    missing("filesystem.*", "what of logs is lost is in `server.ringsail_access_log_dropped`"),
    missing("http.admin.*", NO_ADMIN),
    missing("listener.admin.*", NO_ADMIN),
    missing("http.async-client.*", "calls of the proxy itself are counted in their cluster"),
    missing("http.app.downstream_cx_delayed_close_timeout", "not counted"),
    missing("http.app.downstream_cx_http1_soft_drain", "drains end a connection after its next answer"),
    missing("http.app.downstream_*http3*", NO_HTTP3),
    missing("http.app.downstream_cx_?x_bytes_buffered", NO_BUFFERS),
    missing("http.app.downstream_cx_ssl_*", "TLS connections are counted by their listener"),
    missing("http.app.downstream_rq_rejected_via_ip_detection", "addresses are not detected by extensions"),
    missing("http.app.rq_overload_local_reply", "there is no overload manager"),
    missing("http.app.rq_reset_after_downstream_response_started", "shown by the response flags of the log"),
    missing("http.app.rs_too_large", "answers are streamed, so none is too large"),
    missing("http.app.tracing.health_check", "no request is a health check here"),
    missing("http1.*", NO_CODEC),
    missing("http2.*", NO_CODEC),
    missing("listener.ADDRESS.connections_accepted_per_socket_event", "not recorded"),
    missing("listener.ADDRESS.*extension_config_missing", "filters are not discovered one by one"),
    missing("listener.ADDRESS.downstream_listener_filter_*", "counted in `downstream_pre_cx_timeout`"),
    missing("listener.ADDRESS.http.*", "answers are counted by connection manager, not again by listener"),
    missing("listener.ADDRESS.worker_0.*", "shards are added up"),
    missing("listener_manager.workers_pinned", "threads are not pinned"),
    missing("main_thread.*", NO_WATCHDOG),
    missing("workers.*", NO_WATCHDOG),
    missing("server.main_thread.*", NO_WATCHDOG),
    missing("server.worker_0.*", NO_WATCHDOG),
    missing("runtime.*", NO_RUNTIME),
    missing("server.compilation_settings.fips_mode", "the program is not built with a validated module"),
    missing("server.debug_assertion_failures", "assertions are tests here"),
    missing("server.envoy_bug_failures", "assertions are tests here"),
    missing("server.envoy_notifications", "assertions are tests here"),
    missing("server.dropped_stat_flushes", "nothing is flushed: a scrape reads what is there"),
    missing("server.*unknown_fields", "an unknown field is refused or named in the log"),
    missing("server.wip_protos", "messages in work are not supported"),
    missing("server.seconds_until_first_ocsp_response_expiring", "OCSP responses are not stapled"),
    missing("server.stats_recent_lookups", "names are not looked up"),
    missing("tcp.app.downstream_cx_drain_close", "not counted"),
    missing("tcp.app.downstream_cx_overload_close", "there is no overload manager"),
    missing("tcp.app.downstream_cx_?x_bytes_buffered", NO_BUFFERS),
    missing("tcp.app.early_data_received_count_total", "not counted"),
    missing("tcp.app.route_delayed_total", "not counted"),
    missing("thread_local_cluster_manager.*", "clusters are tables here, in one copy for all shards"),
];

/// Values that two runs of the same traffic need not share, or that mean memory, time and program.
pub const BY_CHANCE: &[&str] = &[
    "server.memory_*",
    "server.uptime",
    "server.version",
    "server.total_connections",
    "server.stats_recent_lookups",
    "*_bytes_total",
    "*.membership_change",
    "*upstream_cx_active",
    "*upstream_cx_destroy*",
    "*upstream_cx_total",
    "*upstream_cx_http1_total",
    "*upstream_rq_pending_total",
    "*downstream_cx_active",
    "*downstream_cx_destroy*",
    "*downstream_cx_total",
    "*downstream_cx_http1_*",
    "*downstream_cx_length_ms",
    "*_time",
    "*_ms",
];

/// Whether a name is one of those that a pattern stands for; `*` is any text, `?` one character.
pub fn matches(pattern: &str, name: &str) -> bool {
    fn go(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| go(rest, &name[skipped..])),
            (Some((b'?', rest)), Some((_, name))) => go(rest, name),
            (Some((wanted, rest)), Some((byte, name))) => wanted == byte && go(rest, name),
            _ => false,
        }
    }
    go(pattern.as_bytes(), name.as_bytes())
}

/// The part of the page of differences about statistics.
pub fn page() -> String {
    let mut page = String::from(
        "\n## Statistics\n\nNames that Envoy shows on `/stats` and ringsail-proxy does not, for the same configuration and \
         traffic. What both show has the same value, but for moments, memory and which connection a request took.\n\n\
         | Envoy's name | why it is not here |\n|---|---|\n",
    );
    for one in MISSING {
        page.push_str(&format!("| `{}` | {} |\n", one.names, one.reason));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_parts_of_names() {
        assert!(matches("a.*.b", "a.x.y.b"));
        assert!(matches("a_?x", "a_rx"));
        assert!(!matches("a.*", "b.a.c"));
        assert!(!matches("a", "ab"));
    }
}
