//! Every metric, one row each. Names and meaning are Envoy's.
//!
//! Sources: Envoy `docs/root/configuration/upstream/cluster_manager/cluster_stats`,
//! `…/http/http_conn_man/stats`, `…/listeners/stats`, `…/observability/statistics`;
//! telemetry contract §1.6 for the ones that tools read.

use crate::block::Block;
use crate::scope::{Labels, Metric as _, Scope, metric, scope};

scope! {
    /// A cluster: `cluster.<name>.…`.
    Cluster, prefix "cluster", label Some("cluster_name"), by_status Some("upstream_rq");
    counters ClusterCounter {
        /// Connections opened.
        UpstreamCxTotal = "upstream_cx_total",
        /// HTTP/1.1 connections opened.
        UpstreamCxHttp1Total = "upstream_cx_http1_total",
        /// HTTP/2 connections opened.
        UpstreamCxHttp2Total = "upstream_cx_http2_total",
        /// Connections that could not be established.
        UpstreamCxConnectFail = "upstream_cx_connect_fail",
        /// Connections not established in time.
        UpstreamCxConnectTimeout = "upstream_cx_connect_timeout",
        /// Connections closed after their idle timeout.
        UpstreamCxIdleTimeout = "upstream_cx_idle_timeout",
        /// Connection attempts in a row that failed for one request.
        UpstreamCxConnectAttemptsExceeded = "upstream_cx_connect_attempts_exceeded",
        /// Requests refused because the connection limit was reached.
        UpstreamCxOverflow = "upstream_cx_overflow",
        /// Requests refused because a connection pool could not be created.
        UpstreamCxPoolOverflow = "upstream_cx_pool_overflow",
        /// Connections closed by us or by the peer.
        UpstreamCxDestroy = "upstream_cx_destroy",
        /// Connections closed by us.
        UpstreamCxDestroyLocal = "upstream_cx_destroy_local",
        /// Connections closed by the peer.
        UpstreamCxDestroyRemote = "upstream_cx_destroy_remote",
        /// Connections closed with requests in flight.
        UpstreamCxDestroyWithActiveRq = "upstream_cx_destroy_with_active_rq",
        /// Connections closed by us with requests in flight.
        UpstreamCxDestroyLocalWithActiveRq = "upstream_cx_destroy_local_with_active_rq",
        /// Connections closed by the peer with requests in flight.
        UpstreamCxDestroyRemoteWithActiveRq = "upstream_cx_destroy_remote_with_active_rq",
        /// Connections closed because their response asked for it.
        UpstreamCxCloseNotify = "upstream_cx_close_notify",
        /// Bytes received from the cluster.
        UpstreamCxRxBytesTotal = "upstream_cx_rx_bytes_total",
        /// Bytes sent to the cluster.
        UpstreamCxTxBytesTotal = "upstream_cx_tx_bytes_total",
        /// Connections that broke the protocol.
        UpstreamCxProtocolError = "upstream_cx_protocol_error",
        /// Connections closed for having served their maximum of requests.
        UpstreamCxMaxRequests = "upstream_cx_max_requests",
        /// Requests, retries not included.
        UpstreamRqTotal = "upstream_rq_total",
        /// Answers with any status.
        UpstreamRqCompleted = "upstream_rq_completed",
        /// Answers with status 1xx.
        UpstreamRq1xx = "upstream_rq_1xx",
        /// Answers with status 2xx.
        UpstreamRq2xx = "upstream_rq_2xx",
        /// Answers with status 3xx.
        UpstreamRq3xx = "upstream_rq_3xx",
        /// Answers with status 4xx.
        UpstreamRq4xx = "upstream_rq_4xx",
        /// Answers with status 5xx.
        UpstreamRq5xx = "upstream_rq_5xx",
        /// Requests that had to wait for a connection.
        UpstreamRqPendingTotal = "upstream_rq_pending_total",
        /// Requests refused because too many were waiting or in flight.
        UpstreamRqPendingOverflow = "upstream_rq_pending_overflow",
        /// Waiting requests failed because no connection could be established.
        UpstreamRqPendingFailureEject = "upstream_rq_pending_failure_eject",
        /// Requests given up before a connection was found.
        UpstreamRqCancelled = "upstream_rq_cancelled",
        /// Requests answered while the cluster was in maintenance mode.
        UpstreamRqMaintenanceMode = "upstream_rq_maintenance_mode",
        /// Requests that took longer than their timeout.
        UpstreamRqTimeout = "upstream_rq_timeout",
        /// Tries that took longer than their own timeout.
        UpstreamRqPerTryTimeout = "upstream_rq_per_try_timeout",
        /// Tries without progress for their idle timeout.
        UpstreamRqPerTryIdleTimeout = "upstream_rq_per_try_idle_timeout",
        /// Requests that lasted longer than their maximum.
        UpstreamRqMaxDurationReached = "upstream_rq_max_duration_reached",
        /// Requests reset by us.
        UpstreamRqTxReset = "upstream_rq_tx_reset",
        /// Requests reset by the peer.
        UpstreamRqRxReset = "upstream_rq_rx_reset",
        /// Retries.
        UpstreamRqRetry = "upstream_rq_retry",
        /// TLS handshakes that succeeded.
        SslHandshake = "ssl.handshake",
        /// Of them, those that resumed a session.
        SslSessionReused = "ssl.session_reused",
        /// TLS handshakes that failed.
        SslConnectionError = "ssl.connection_error",
        /// Retries that succeeded.
        UpstreamRqRetrySuccess = "upstream_rq_retry_success",
        /// Retries refused by the retry circuit breaker.
        UpstreamRqRetryOverflow = "upstream_rq_retry_overflow",
        /// Requests not retried because their number of retries was used up.
        UpstreamRqRetryLimitExceeded = "upstream_rq_retry_limit_exceeded",
        /// Waits before a retry with exponential back-off.
        UpstreamRqRetryBackoffExponential = "upstream_rq_retry_backoff_exponential",
        /// Retries after a wait that the answer asked for.
        UpstreamRqRetryBackoffRatelimited = "upstream_rq_retry_backoff_ratelimited",
        /// Redirects that were followed here.
        UpstreamInternalRedirectSucceededTotal = "upstream_internal_redirect_succeeded_total",
        /// Redirects that were to be followed here and were passed on.
        UpstreamInternalRedirectFailedTotal = "upstream_internal_redirect_failed_total",
        /// Times reading from a connection paused because the receiver was slow.
        UpstreamFlowControlPausedReadingTotal = "upstream_flow_control_paused_reading_total",
        /// Times reading resumed.
        UpstreamFlowControlResumedReadingTotal = "upstream_flow_control_resumed_reading_total",
        /// Requests that a rate limit service let pass.
        RatelimitOk = "ratelimit.ok",
        /// Requests that a rate limit service found past a limit.
        RatelimitOverLimit = "ratelimit.over_limit",
        /// Requests about which a rate limit service could not be asked.
        RatelimitError = "ratelimit.error",
        /// Those of them that went on.
        RatelimitFailureModeAllowed = "ratelimit.failure_mode_allowed",
        /// Requests that found no healthy endpoint.
        UpstreamCxNoneHealthy = "upstream_cx_none_healthy",
        /// Picks made among all endpoints because too few were healthy.
        LbHealthyPanic = "lb_healthy_panic",
        /// Picks in the own zone, which has room for all.
        LbZoneRoutingAllDirectly = "lb_zone_routing_all_directly",
        /// Picks in the own zone, which has room for a part.
        LbZoneRoutingSampled = "lb_zone_routing_sampled",
        /// Picks in another zone, because the own has no room.
        LbZoneRoutingCrossZone = "lb_zone_routing_cross_zone",
        /// Picks in any other zone, because none has room.
        LbZoneNoCapacityLeft = "lb_zone_no_capacity_left",
        /// Times zones were disregarded because there were too few healthy hosts.
        LbZoneClusterTooSmall = "lb_zone_cluster_too_small",
        /// Times zones were disregarded because the own cluster has no hosts, or too few healthy ones.
        LbLocalClusterNotOk = "lb_local_cluster_not_ok",
        /// Picks made inside a subset.
        LbSubsetsSelected = "lb_subsets_selected",
        /// Picks made by the fallback of a cluster with subsets.
        LbSubsetsFallback = "lb_subsets_fallback",
        /// Picks made among all endpoints because the fallback had none.
        LbSubsetsFallbackPanic = "lb_subsets_fallback_panic",
        /// Updates of the set of endpoints.
        MembershipChange = "membership_change",
        /// Endpoint updates received.
        UpdateAttempt = "update_attempt",
        /// Endpoint updates applied.
        UpdateSuccess = "update_success",
        /// Endpoint updates that could not be fetched.
        UpdateFailure = "update_failure",
        /// Endpoint updates that were refused.
        UpdateRejected = "update_rejected",
        /// Endpoint updates without content.
        UpdateEmpty = "update_empty",
        /// Endpoint updates that change nothing.
        UpdateNoRebuild = "update_no_rebuild",
        /// Endpoints ejected.
        OutlierEjectionsEnforcedTotal = "outlier_detection.ejections_enforced_total",
        /// Ejections not made because too many endpoints were ejected already.
        OutlierEjectionsOverflow = "outlier_detection.ejections_overflow",
        /// Endpoints found to fail in a row.
        OutlierEjectionsDetectedConsecutive5xx = "outlier_detection.ejections_detected_consecutive_5xx",
        /// Endpoints ejected for failing in a row.
        OutlierEjectionsEnforcedConsecutive5xx = "outlier_detection.ejections_enforced_consecutive_5xx",
        /// Endpoints found to answer 502, 503 or 504 in a row.
        OutlierDetectedGateway = "outlier_detection.ejections_detected_consecutive_gateway_failure",
        /// Endpoints ejected for it.
        OutlierEnforcedGateway = "outlier_detection.ejections_enforced_consecutive_gateway_failure",
        /// Endpoints found not to be reached in a row.
        OutlierDetectedLocal = "outlier_detection.ejections_detected_consecutive_local_origin_failure",
        /// Endpoints ejected for it.
        OutlierEnforcedLocal = "outlier_detection.ejections_enforced_consecutive_local_origin_failure",
        /// Endpoints found with a success rate far below the others'.
        OutlierDetectedSuccessRate = "outlier_detection.ejections_detected_success_rate",
        /// Endpoints ejected for it.
        OutlierEnforcedSuccessRate = "outlier_detection.ejections_enforced_success_rate",
        /// The same of reaching them.
        OutlierDetectedLocalSuccessRate = "outlier_detection.ejections_detected_local_origin_success_rate",
        /// Endpoints ejected for it.
        OutlierEnforcedLocalSuccessRate = "outlier_detection.ejections_enforced_local_origin_success_rate",
        /// Endpoints found with too large a share of failures.
        OutlierDetectedFailurePercentage = "outlier_detection.ejections_detected_failure_percentage",
        /// Endpoints ejected for it.
        OutlierEnforcedFailurePercentage = "outlier_detection.ejections_enforced_failure_percentage",
        /// The same of reaching them.
        OutlierDetectedLocalFailurePercentage =
            "outlier_detection.ejections_detected_local_origin_failure_percentage",
        /// Endpoints ejected for it.
        OutlierEnforcedLocalFailurePercentage =
            "outlier_detection.ejections_enforced_local_origin_failure_percentage",
        /// Checks made.
        HealthCheckAttempt = "health_check.attempt",
        /// Checks passed.
        HealthCheckSuccess = "health_check.success",
        /// Checks failed.
        HealthCheckFailure = "health_check.failure",
        /// Checks that found nobody, or no answer in time.
        HealthCheckNetworkFailure = "health_check.network_failure",
        /// Endpoints that said in an answer that they are not well.
        HealthCheckPassiveFailure = "health_check.passive_failure",
    }
    gauges ClusterGauge {
        /// Connections open.
        UpstreamCxActive = "upstream_cx_active",
        /// Requests in flight.
        UpstreamRqActive = "upstream_rq_active",
        /// Requests waiting for a connection.
        UpstreamRqPendingActive = "upstream_rq_pending_active",
        /// Endpoints.
        MembershipTotal = "membership_total",
        /// Healthy endpoints.
        MembershipHealthy = "membership_healthy",
        /// Endpoints usable only when no healthy one is left.
        MembershipDegraded = "membership_degraded",
        /// Endpoints left out of load balancing for being excluded.
        MembershipExcluded = "membership_excluded",
        /// Endpoints ejected.
        OutlierEjectionsActive = "outlier_detection.ejections_active",
        /// Endpoints that checks found healthy.
        HealthCheckHealthy = "health_check.healthy",
        /// Endpoints that checks found degraded.
        HealthCheckDegraded = "health_check.degraded",
        /// 1 when the connection limit is reached.
        CxOpen = "circuit_breakers.default.cx_open",
        /// 1 when the limit of waiting requests is reached.
        RqPendingOpen = "circuit_breakers.default.rq_pending_open",
        /// 1 when the limit of requests in flight is reached.
        RqOpen = "circuit_breakers.default.rq_open",
        /// 1 when the limit of concurrent retries is reached.
        RqRetryOpen = "circuit_breakers.default.rq_retry_open",
        /// Connections left, where `track_remaining` is set.
        RemainingCx = "circuit_breakers.default.remaining_cx",
        /// Waiting requests left.
        RemainingPending = "circuit_breakers.default.remaining_pending",
        /// Requests left.
        RemainingRq = "circuit_breakers.default.remaining_rq",
        /// Retries left.
        RemainingRetries = "circuit_breakers.default.remaining_retries",
        /// 1 when the limit of connection pools is reached.
        CxPoolOpen = "circuit_breakers.default.cx_pool_open",
    }
    histograms ClusterHistogram {
        /// Time from request to complete response, in milliseconds.
        UpstreamRqTime = "upstream_rq_time",
        /// Time to establish a connection, in milliseconds.
        UpstreamCxConnectMs = "upstream_cx_connect_ms",
        /// Life of a connection, in milliseconds.
        UpstreamCxLengthMs = "upstream_cx_length_ms",
    }
}

scope! {
    /// An HTTP connection manager: `http.<stat_prefix>.…`.
    Http, prefix "http", label Some("http_conn_manager_prefix"), by_status None;
    counters HttpCounter {
        /// Connections accepted.
        DownstreamCxTotal = "downstream_cx_total",
        /// HTTP/1.1 connections accepted.
        DownstreamCxHttp1Total = "downstream_cx_http1_total",
        /// HTTP/2 connections accepted.
        DownstreamCxHttp2Total = "downstream_cx_http2_total",
        /// Connections upgraded (websocket) or turned into tunnels.
        DownstreamCxUpgradesTotal = "downstream_cx_upgrades_total",
        /// Connections closed by us or by the client.
        DownstreamCxDestroy = "downstream_cx_destroy",
        /// Connections closed by us.
        DownstreamCxDestroyLocal = "downstream_cx_destroy_local",
        /// Connections closed by the client.
        DownstreamCxDestroyRemote = "downstream_cx_destroy_remote",
        /// Connections closed with requests in flight.
        DownstreamCxDestroyActiveRq = "downstream_cx_destroy_active_rq",
        /// Connections closed by us with requests in flight.
        DownstreamCxDestroyLocalActiveRq = "downstream_cx_destroy_local_active_rq",
        /// Connections closed by the client with requests in flight.
        DownstreamCxDestroyRemoteActiveRq = "downstream_cx_destroy_remote_active_rq",
        /// Connections closed for draining.
        DownstreamCxDrainClose = "downstream_cx_drain_close",
        /// Connections closed after their idle timeout.
        DownstreamCxIdleTimeout = "downstream_cx_idle_timeout",
        /// Connections closed after their longest duration.
        DownstreamCxMaxDurationReached = "downstream_cx_max_duration_reached",
        /// Connections closed after their highest number of requests.
        DownstreamCxMaxRequestsReached = "downstream_cx_max_requests_reached",
        /// Connections closed because resources ran out.
        DownstreamCxOverloadDisableKeepalive = "downstream_cx_overload_disable_keepalive",
        /// Connections that broke the protocol.
        DownstreamCxProtocolError = "downstream_cx_protocol_error",
        /// Bytes received from clients.
        DownstreamCxRxBytesTotal = "downstream_cx_rx_bytes_total",
        /// Bytes sent to clients.
        DownstreamCxTxBytesTotal = "downstream_cx_tx_bytes_total",
        /// Requests.
        DownstreamRqTotal = "downstream_rq_total",
        /// HTTP/1.1 requests.
        DownstreamRqHttp1Total = "downstream_rq_http1_total",
        /// HTTP/2 requests.
        DownstreamRqHttp2Total = "downstream_rq_http2_total",
        /// Requests answered with any status.
        DownstreamRqCompleted = "downstream_rq_completed",
        /// Requests answered with status 1xx.
        DownstreamRq1xx = "downstream_rq_1xx",
        /// Requests answered with status 2xx.
        DownstreamRq2xx = "downstream_rq_2xx",
        /// Requests answered with status 3xx.
        DownstreamRq3xx = "downstream_rq_3xx",
        /// Requests answered with status 4xx.
        DownstreamRq4xx = "downstream_rq_4xx",
        /// Requests answered with status 5xx.
        DownstreamRq5xx = "downstream_rq_5xx",
        /// Requests reset by the client.
        DownstreamRqRxReset = "downstream_rq_rx_reset",
        /// Requests reset by us.
        DownstreamRqTxReset = "downstream_rq_tx_reset",
        /// Requests whose path was not absolute.
        DownstreamRqNonRelativePath = "downstream_rq_non_relative_path",
        /// Requests refused by path normalisation.
        DownstreamRqFailedPathNormalization = "downstream_rq_failed_path_normalization",
        /// Requests redirected to their normalised path.
        DownstreamRqRedirectedWithNormalizedPath = "downstream_rq_redirected_with_normalized_path",
        /// Requests without progress for the stream idle timeout.
        DownstreamRqIdleTimeout = "downstream_rq_idle_timeout",
        /// Requests that lasted longer than their maximum.
        DownstreamRqMaxDurationReached = "downstream_rq_max_duration_reached",
        /// Requests not complete within the request timeout.
        DownstreamRqTimeout = "downstream_rq_timeout",
        /// Requests whose head was not complete in time.
        DownstreamRqHeaderTimeout = "downstream_rq_header_timeout",
        /// Requests whose head was too large.
        DownstreamRqTooLarge = "downstream_rq_too_large",
        /// Connections ended because most of their streams were reset by the client early.
        DownstreamRqTooManyPrematureResets = "downstream_rq_too_many_premature_resets",
        /// Requests refused because resources ran out.
        DownstreamRqOverloadClose = "downstream_rq_overload_close",
        /// Answers started before the request was complete.
        DownstreamRqResponseBeforeRqComplete = "downstream_rq_response_before_rq_complete",
        /// Upgrade requests for which no upgrade is configured.
        DownstreamRqWsOnNonWsRoute = "downstream_rq_ws_on_non_ws_route",
        /// Times reading from a client paused because the receiver was slow.
        DownstreamFlowControlPausedReadingTotal = "downstream_flow_control_paused_reading_total",
        /// Times reading resumed.
        DownstreamFlowControlResumedReadingTotal = "downstream_flow_control_resumed_reading_total",
        /// Requests for which no route was found.
        NoRoute = "no_route",
        /// Requests whose route names a cluster that does not exist.
        NoCluster = "no_cluster",
        /// Redirects passed on because they lead to no URL.
        PassthroughInternalRedirectBadLocation = "passthrough_internal_redirect_bad_location",
        /// Redirects passed on because they lead to another scheme.
        PassthroughInternalRedirectUnsafeScheme = "passthrough_internal_redirect_unsafe_scheme",
        /// Redirects passed on because as many as may be were followed.
        PassthroughInternalRedirectTooManyRedirects = "passthrough_internal_redirect_too_many_redirects",
        /// Redirects passed on because no route leads on from them.
        PassthroughInternalRedirectNoRoute = "passthrough_internal_redirect_no_route",
        /// Redirects passed on because a predicate did not accept the route.
        PassthroughInternalRedirectPredicate = "passthrough_internal_redirect_predicate",
        /// Answers that the fault filter slowed down.
        FaultResponseRlInjected = "fault.response_rl_injected",
        /// Always 0, as in Envoy, which counts redirects as direct responses.
        RqRedirect = "rq_redirect",
        /// Requests that a route answered itself, also with a redirect.
        RqDirectResponse = "rq_direct_response",
        /// Requests sent on to a cluster.
        RqTotal = "rq_total",
        /// Requests authorization let pass.
        RbacAllowed = "rbac.allowed",
        /// Requests authorization refused.
        RbacDenied = "rbac.denied",
        /// Requests aborted by fault injection.
        FaultAbortsInjected = "fault.aborts_injected",
        /// Requests delayed by fault injection.
        FaultDelaysInjected = "fault.delays_injected",
        /// Faults not injected because there were too many at once.
        FaultFaultsOverflow = "fault.faults_overflow",
        /// Cross-origin requests whose origin is allowed.
        CorsOriginValid = "cors.origin_valid",
        /// Cross-origin requests whose origin is not allowed.
        CorsOriginInvalid = "cors.origin_invalid",
        /// Requests that rules on trial would let pass.
        RbacShadowAllowed = "rbac.shadow_allowed",
        /// Requests they would refuse.
        RbacShadowDenied = "rbac.shadow_denied",
        /// Requests traced by chance.
        TracingRandomSampling = "tracing.random_sampling",
        /// Requests traced because of `x-envoy-force-trace`.
        TracingServiceForced = "tracing.service_forced",
        /// Requests traced because of `x-client-trace-id`.
        TracingClientEnabled = "tracing.client_enabled",
        /// Requests not traced.
        TracingNotTraceable = "tracing.not_traceable",
    }
    gauges HttpGauge {
        /// Connections open.
        DownstreamCxActive = "downstream_cx_active",
        /// HTTP/1.1 connections open.
        DownstreamCxHttp1Active = "downstream_cx_http1_active",
        /// HTTP/2 connections open.
        DownstreamCxHttp2Active = "downstream_cx_http2_active",
        /// Upgraded connections open.
        DownstreamCxUpgradesActive = "downstream_cx_upgrades_active",
        /// Requests in flight.
        DownstreamRqActive = "downstream_rq_active",
        /// Requests with an injected fault in flight.
        FaultActiveFaults = "fault.active_faults",
    }
    histograms HttpHistogram {
        /// Time from request to complete response, in milliseconds.
        DownstreamRqTime = "downstream_rq_time",
        /// Life of a connection, in milliseconds.
        DownstreamCxLengthMs = "downstream_cx_length_ms",
    }
}

scope! {
    /// A listener: `listener.<address>.…`, with colons in the address written as `_`.
    Listener, prefix "listener", label Some("listener_address"), by_status None;
    counters ListenerCounter {
        /// Connections accepted.
        DownstreamCxTotal = "downstream_cx_total",
        /// Connections closed.
        DownstreamCxDestroy = "downstream_cx_destroy",
        /// Connections refused because the listener's limit was reached.
        DownstreamCxOverflow = "downstream_cx_overflow",
        /// Connections refused because resources ran out.
        DownstreamCxOverloadReject = "downstream_cx_overload_reject",
        /// Connections refused because the process' limit was reached.
        DownstreamGlobalCxOverflow = "downstream_global_cx_overflow",
        /// Connections not secured in time.
        DownstreamCxTransportSocketConnectTimeout = "downstream_cx_transport_socket_connect_timeout",
        /// Connections that matched no filter chain.
        NoFilterChainMatch = "no_filter_chain_match",
        /// Connections that sent too little for the listener filters in time.
        DownstreamPreCxTimeout = "downstream_pre_cx_timeout",
        /// Connections without a PROXY header that were served.
        ProxyProtoNotFoundAllowed = "proxy_proto.not_found_allowed",
        /// Connections without a PROXY header that were closed.
        ProxyProtoNotFoundDisallowed = "proxy_proto.not_found_disallowed",
        /// PROXY headers of version 1.
        ProxyProtoV1Found = "proxy_proto.versions.v1.found",
        /// The same, that may not be.
        ProxyProtoV1Disallowed = "proxy_proto.versions.v1.disallowed",
        /// The same, that are broken.
        ProxyProtoV1Error = "proxy_proto.versions.v1.error",
        /// PROXY headers of version 2.
        ProxyProtoV2Found = "proxy_proto.versions.v2.found",
        /// The same, that may not be.
        ProxyProtoV2Disallowed = "proxy_proto.versions.v2.disallowed",
        /// The same, that are broken.
        ProxyProtoV2Error = "proxy_proto.versions.v2.error",
        /// TLS handshakes that failed.
        SslConnectionError = "ssl.connection_error",
        /// TLS handshakes that succeeded.
        SslHandshake = "ssl.handshake",
        /// Of them, those that resumed a session.
        SslSessionReused = "ssl.session_reused",
        /// Of them, those whose client has shown no certificate.
        SslNoCertificate = "ssl.no_certificate",
    }
    gauges ListenerGauge {
        /// Connections open.
        DownstreamCxActive = "downstream_cx_active",
        /// Connections waiting for listener filters.
        DownstreamPreCxActive = "downstream_pre_cx_active",
    }
    histograms ListenerHistogram {
        /// Life of a connection, in milliseconds.
        DownstreamCxLengthMs = "downstream_cx_length_ms",
    }
}

scope! {
    /// A TCP proxy: `tcp.<stat_prefix>.…`.
    Tcp, prefix "tcp", label Some("tcp_prefix"), by_status None;
    counters TcpCounter {
        /// Connections handled.
        DownstreamCxTotal = "downstream_cx_total",
        /// Connections without a route.
        DownstreamCxNoRoute = "downstream_cx_no_route",
        /// Bytes received from clients.
        DownstreamCxRxBytesTotal = "downstream_cx_rx_bytes_total",
        /// Bytes sent to clients.
        DownstreamCxTxBytesTotal = "downstream_cx_tx_bytes_total",
        /// Connections that rules of access control let pass.
        RbacAllowed = "rbac.allowed",
        /// Connections they refused.
        RbacDenied = "rbac.denied",
        /// Connections that rules on trial would let pass.
        RbacShadowAllowed = "rbac.shadow_allowed",
        /// Connections they would refuse.
        RbacShadowDenied = "rbac.shadow_denied",
        /// Connections closed after the idle timeout.
        IdleTimeout = "idle_timeout",
        /// Connections closed after their longest duration.
        MaxDownstreamConnectionDuration = "max_downstream_connection_duration",
        /// Times reading from a client paused because the receiver was slow.
        DownstreamFlowControlPausedReadingTotal = "downstream_flow_control_paused_reading_total",
        /// Times reading resumed.
        DownstreamFlowControlResumedReadingTotal = "downstream_flow_control_resumed_reading_total",
        /// Upstream flushes continued after the client went away.
        UpstreamFlushTotal = "upstream_flush_total",
    }
    gauges TcpGauge {
        /// Connections open.
        DownstreamCxActive = "downstream_cx_active",
        /// Upstream connections being flushed after the client went away.
        UpstreamFlushActive = "upstream_flush_active",
    }
    histograms TcpHistogram {}
}

scope! {
    /// A local rate limit: `<stat_prefix>.http_local_rate_limit.…`.
    LocalRateLimit, prefix "", label Some("local_http_ratelimit_prefix"), by_status None;
    counters LocalRateLimitCounter {
        /// Requests counted.
        Enabled = "http_local_rate_limit.enabled",
        /// Requests refused.
        Enforced = "http_local_rate_limit.enforced",
        /// Requests past the limit, refused or not.
        RateLimited = "http_local_rate_limit.rate_limited",
        /// Requests within the limit.
        Ok = "http_local_rate_limit.ok",
    }
    gauges LocalRateLimitGauge {}
    histograms LocalRateLimitHistogram {}
}

scope! {
    /// A limit of connections at once: `connection_limit.<stat_prefix>.…`.
    ConnectionLimit, prefix "connection_limit", label Some("connection_limit_prefix"), by_status None;
    counters ConnectionLimitCounter {
        /// Connections past the limit.
        LimitedConnections = "limited_connections",
    }
    gauges ConnectionLimitGauge {
        /// Connections that are counted.
        ActiveConnections = "active_connections",
    }
    histograms ConnectionLimitHistogram {}
}

scope! {
    /// A limit of connections in a time: `local_rate_limit.<stat_prefix>.…`.
    ConnectionRate, prefix "local_rate_limit", label Some("local_network_ratelimit_prefix"), by_status None;
    counters ConnectionRateCounter {
        /// Connections past the limit.
        RateLimited = "rate_limited",
    }
    gauges ConnectionRateGauge {}
    histograms ConnectionRateHistogram {}
}

scope! {
    /// The process: `server.…`.
    Server, prefix "server", label None, by_status None;
    counters ServerCounter {
        /// Panics caught in connection tasks.
        TaskPanics = "ringsail_task_panics",
        /// Access-log records dropped because the queue was full.
        AccessLogDropped = "ringsail_access_log_dropped",
        /// Times a shard asked its buffer pool in vain.
        BuffersExhausted = "ringsail_buffers_exhausted",
        /// Connections refused because a shard had as many as it may.
        ConnectionsRefused = "ringsail_connections_refused",
        /// Tasks not started because a shard had as many as it may.
        TasksRefused = "ringsail_tasks_refused",
        /// Commands that a shard did not take because as many were waiting as may.
        CommandsRefused = "ringsail_commands_refused",
        /// Times news from a shard had to wait because as many were waiting as may.
        EventsRefused = "ringsail_events_refused",
        /// Reports of failing endpoints lost because as many were waiting as may.
        ReportsRefused = "ringsail_reports_refused",
        /// Times accepting rested because descriptors or memory ran out.
        AcceptRests = "ringsail_accept_rests",
    }
    gauges ServerGauge {
        /// 0 live, 1 draining, 2 before initialisation, 3 initialising.
        State = "state",
        /// 1 while the server serves.
        Live = "live",
        /// Seconds since start.
        Uptime = "uptime",
        /// Shards.
        Concurrency = "concurrency",
        /// Bytes allocated.
        MemoryAllocated = "memory_allocated",
        /// Bytes reserved by the allocator.
        MemoryHeapSize = "memory_heap_size",
        /// Bytes of physical memory.
        MemoryPhysicalSize = "memory_physical_size",
        /// Downstream connections open.
        TotalConnections = "total_connections",
        /// Parent process' connections; always 0.
        ParentConnections = "parent_connections",
        /// Days until the first certificate expires.
        DaysUntilFirstCertExpiring = "days_until_first_cert_expiring",
        /// Always 0: there is no hot restart.
        HotRestartEpoch = "hot_restart_epoch",
        /// Version as one number.
        Version = "version",
        /// 1 with io_uring, 0 with epoll.
        EngineIoUring = "ringsail_engine_io_uring",
        /// Table versions alive.
        TablesVersions = "ringsail_tables_versions",
        /// Receive buffers lent out on all shards.
        BuffersLent = "ringsail_buffers_lent",
        /// Tasks alive on all shards.
        Tasks = "ringsail_tasks",
    }
    histograms ServerHistogram {
        /// Time from start to serving, in milliseconds.
        InitializationTimeMs = "initialization_time_ms",
    }
}

scope! {
    /// Clusters as a whole: `cluster_manager.…`.
    ClusterManager, prefix "cluster_manager", label None, by_status None;
    counters ClusterManagerCounter {
        /// Clusters added.
        ClusterAdded = "cluster_added",
        /// Clusters changed.
        ClusterModified = "cluster_modified",
        /// Clusters removed.
        ClusterRemoved = "cluster_removed",
        /// Clusters updated.
        ClusterUpdated = "cluster_updated",
        /// CDS responses received.
        CdsUpdateAttempt = "cds.update_attempt",
        /// CDS responses accepted.
        CdsUpdateSuccess = "cds.update_success",
        /// CDS fetches that failed.
        CdsUpdateFailure = "cds.update_failure",
        /// CDS responses refused.
        CdsUpdateRejected = "cds.update_rejected",
    }
    gauges ClusterManagerGauge {
        /// Clusters that serve.
        ActiveClusters = "active_clusters",
        /// Clusters that wait for endpoints.
        WarmingClusters = "warming_clusters",
        /// Hash of the last accepted CDS version.
        CdsVersion = "cds.version",
    }
    histograms ClusterManagerHistogram {}
}

scope! {
    /// Listeners as a whole: `listener_manager.…`.
    ListenerManager, prefix "listener_manager", label None, by_status None;
    counters ListenerManagerCounter {
        /// Listeners added.
        ListenerAdded = "listener_added",
        /// Listeners changed.
        ListenerModified = "listener_modified",
        /// Listeners removed.
        ListenerRemoved = "listener_removed",
        /// Listeners stopped.
        ListenerStopped = "listener_stopped",
        /// Listeners opened, counted per shard.
        ListenerCreateSuccess = "listener_create_success",
        /// Listeners that could not be opened.
        ListenerCreateFailure = "listener_create_failure",
        /// Listeners changed in place.
        ListenerInPlaceUpdated = "listener_in_place_updated",
        /// LDS responses received.
        LdsUpdateAttempt = "lds.update_attempt",
        /// LDS responses accepted.
        LdsUpdateSuccess = "lds.update_success",
        /// LDS fetches that failed.
        LdsUpdateFailure = "lds.update_failure",
        /// LDS responses refused.
        LdsUpdateRejected = "lds.update_rejected",
    }
    gauges ListenerManagerGauge {
        /// Listeners that serve.
        TotalListenersActive = "total_listeners_active",
        /// Listeners that wait for configuration.
        TotalListenersWarming = "total_listeners_warming",
        /// Listeners that drain.
        TotalListenersDraining = "total_listeners_draining",
        /// Filter chains that drain.
        TotalFilterChainsDraining = "total_filter_chains_draining",
        /// 1 once all shards accept.
        WorkersStarted = "workers_started",
        /// Hash of the last accepted LDS version.
        LdsVersion = "lds.version",
    }
    histograms ListenerManagerHistogram {}
}

scope! {
    /// Access logs that are sent to services: `access_logs.…`.
    AccessLogs, prefix "access_logs", label None, by_status None;
    counters AccessLogsCounter {
        /// Entries that an access-log service got.
        GrpcWritten = "grpc_access_log.logs_written",
        /// Entries that it did not get.
        GrpcDropped = "grpc_access_log.logs_dropped",
        /// Log records that an OpenTelemetry collector got.
        OpenTelemetryWritten = "open_telemetry_access_log.logs_written",
        /// Log records that it did not get.
        OpenTelemetryDropped = "open_telemetry_access_log.logs_dropped",
    }
    gauges AccessLogsGauge {}
    histograms AccessLogsHistogram {}
}

scope! {
    /// Spans that are sent to collectors: `tracing.…`.
    Spans, prefix "tracing", label None, by_status None;
    counters SpansCounter {
        /// Spans that Zipkin got.
        ZipkinSpansSent = "zipkin.spans_sent",
        /// Batches that Zipkin got.
        ZipkinReportsSent = "zipkin.reports_sent",
        /// Batches that Zipkin refused.
        ZipkinReportsDropped = "zipkin.reports_dropped",
        /// Batches that did not reach Zipkin.
        ZipkinReportsFailed = "zipkin.reports_failed",
        /// Batches for a cluster that is not there.
        ZipkinReportsSkippedNoCluster = "zipkin.reports_skipped_no_cluster",
        /// Spans that an OpenTelemetry collector got.
        OpenTelemetrySpansSent = "opentelemetry.spans_sent",
        /// Spans that it did not get.
        OpenTelemetrySpansDropped = "opentelemetry.spans_dropped",
    }
    gauges SpansGauge {}
    histograms SpansHistogram {}
}

scope! {
    /// The connection to the control plane: `control_plane.…`.
    ControlPlane, prefix "control_plane", label None, by_status None;
    counters ControlPlaneCounter {
        /// Requests held back to limit their rate.
        RateLimitEnforced = "rate_limit_enforced",
    }
    gauges ControlPlaneGauge {
        /// 1 while connected.
        ConnectedState = "connected_state",
        /// Requests waiting to be sent.
        PendingRequests = "pending_requests",
    }
    histograms ControlPlaneHistogram {}
}

/// HTTP/2 connections of clients: `http2.…`, one scope for all listeners. Its name is empty.
#[derive(Clone, Copy, Debug)]
pub enum DownstreamHttp2 {}

impl Scope for DownstreamHttp2 {
    type Counter = Http2Counter;
    type Gauge = Http2Gauge;
    type Histogram = Http2Histogram;
    const PREFIX: &'static str = "http2";
    const LABEL: Option<&'static str> = None;
    const BY_STATUS: Option<&'static str> = None;
}

/// HTTP/2 connections to a cluster: `cluster.<name>.http2.…`. The scope's name is `<name>.http2`.
#[derive(Clone, Copy, Debug)]
pub enum UpstreamHttp2 {}

impl UpstreamHttp2 {
    /// The scope's name.
    pub fn scope_name(cluster: &str) -> String {
        format!("{cluster}{HTTP2_SUFFIX}")
    }
}

const HTTP2_SUFFIX: &str = ".http2";

impl Scope for UpstreamHttp2 {
    type Counter = Http2Counter;
    type Gauge = Http2Gauge;
    type Histogram = Http2Histogram;
    const PREFIX: &'static str = Cluster::PREFIX;
    const LABEL: Option<&'static str> = Cluster::LABEL;
    const FAMILY: &'static str = "cluster_http2";
    const BY_STATUS: Option<&'static str> = None;

    fn labels(name: &str) -> Labels<'_> {
        Cluster::labels(name.strip_suffix(HTTP2_SUFFIX).unwrap_or(name))
    }
}

metric!(
    Http2Counter,
    "Counters of HTTP/2 connections.",
    /// Fields dropped for an underscore in their name.
    DroppedHeadersWithUnderscores = "dropped_headers_with_underscores",
    /// GOAWAY frames sent.
    GoawaySent = "goaway_sent",
    /// Streams reset because their head was too large or had too many fields.
    HeaderOverflow = "header_overflow",
    /// Connections ended for frames without payload.
    InboundEmptyFramesFlood = "inbound_empty_frames_flood",
    /// Connections ended for PRIORITY frames.
    InboundPriorityFramesFlood = "inbound_priority_frames_flood",
    /// Connections ended for WINDOW_UPDATE frames.
    InboundWindowUpdateFramesFlood = "inbound_window_update_frames_flood",
    /// Connections ended because a ping was not answered in time.
    KeepaliveTimeout = "keepalive_timeout",
    /// Connections ended for frames that want answers which the peer does not take.
    OutboundControlFlood = "outbound_control_flood",
    /// Streams reset for an underscore in the name of a field.
    RequestsRejectedWithUnderscoresInHeaders = "requests_rejected_with_underscores_in_headers",
    /// Messages that broke the protocol.
    RxMessagingError = "rx_messaging_error",
    /// RST_STREAM frames received.
    RxReset = "rx_reset",
    /// Streams that the peer has refused.
    StreamRefusedErrors = "stream_refused_errors",
    /// Messages received with trailers.
    Trailers = "trailers",
    /// RST_STREAM frames sent.
    TxReset = "tx_reset",
);
metric!(
    Http2Gauge,
    "Gauges of HTTP/2 connections.",
    /// Streams open.
    StreamsActive = "streams_active",
);
metric!(Http2Histogram, "Histograms of HTTP/2 connections: none.",);

/// gRPC calls of a cluster, all or those of one method: `cluster.<name>.grpc.…` and
/// `cluster.<name>.grpc.<service>.<method>.…`. The scope's name is [`Grpc::push_scope_name`]'s.
///
/// Compat: only what was counted is shown, as Envoy makes these counters when they are first needed.
#[derive(Clone, Copy, Debug)]
pub enum Grpc {}

/// Parts the words of a [`Grpc`] scope's name, which may have any other character of a path or a cluster's name.
const GRPC_SEPARATOR: char = '\n';

impl Grpc {
    /// Appends the scope's name.
    pub fn push_scope_name(cluster: &str, method: Option<(&str, &str)>, out: &mut String) {
        out.push_str(cluster);
        for word in method.into_iter().flat_map(|(service, method)| [service, method]) {
            out.push(GRPC_SEPARATOR);
            out.push_str(word);
        }
    }
}

impl Scope for Grpc {
    type Counter = GrpcCounter;
    type Gauge = GrpcGauge;
    type Histogram = GrpcHistogram;
    const PREFIX: &'static str = Cluster::PREFIX;
    const LABEL: Option<&'static str> = Cluster::LABEL;
    const FAMILY: &'static str = "cluster_grpc";
    const BY_STATUS: Option<&'static str> = None;
    const USED_ONLY: bool = true;

    fn labels(name: &str) -> Labels<'_> {
        let mut words = name.splitn(3, GRPC_SEPARATOR);
        let [cluster, ..] = Cluster::labels(words.next().unwrap_or_default());
        let service = words.next().map(|service| ("grpc_bridge_service", service));
        [cluster, service, words.next().map(|method| ("grpc_bridge_method", method))]
    }

    fn push_dotted(name: &str, out: &mut String) {
        let mut words = name.split(GRPC_SEPARATOR);
        out.push_str(words.next().unwrap_or_default());
        out.push_str(".grpc");
        for word in words {
            out.push('.');
            out.push_str(word);
        }
    }
}

metric!(
    GrpcCounter,
    "Counters of [`Grpc`].",
    /// Calls that ended with status OK.
    Status0 = "0",
    /// With CANCELLED.
    Status1 = "1",
    /// With UNKNOWN.
    Status2 = "2",
    /// With INVALID_ARGUMENT.
    Status3 = "3",
    /// With DEADLINE_EXCEEDED.
    Status4 = "4",
    /// With NOT_FOUND.
    Status5 = "5",
    /// With ALREADY_EXISTS.
    Status6 = "6",
    /// With PERMISSION_DENIED.
    Status7 = "7",
    /// With RESOURCE_EXHAUSTED.
    Status8 = "8",
    /// With FAILED_PRECONDITION.
    Status9 = "9",
    /// With ABORTED.
    Status10 = "10",
    /// With OUT_OF_RANGE.
    Status11 = "11",
    /// With UNIMPLEMENTED.
    Status12 = "12",
    /// With INTERNAL.
    Status13 = "13",
    /// With UNAVAILABLE.
    Status14 = "14",
    /// With DATA_LOSS.
    Status15 = "15",
    /// With UNAUTHENTICATED.
    Status16 = "16",
    /// Calls that ended with another status than OK.
    Failure = "failure",
    /// Messages from clients.
    RequestMessageCount = "request_message_count",
    /// Messages to clients.
    ResponseMessageCount = "response_message_count",
    /// Calls that ended with OK.
    Success = "success",
    /// Calls that ended with a status.
    Total = "total",
);
metric!(GrpcGauge, "Gauges of [`Grpc`]: none.",);
metric!(
    GrpcHistogram,
    "Histograms of [`Grpc`].",
    /// Time from the request's last byte to the answer's, in milliseconds.
    UpstreamRqTime = "upstream_rq_time",
);

impl Block<Grpc> {
    /// Counts the end of a call. A status beyond those that gRPC has counts without a counter of its own.
    pub fn count_status_of_call(&self, status: &[u8]) {
        let of_status = GrpcCounter::ALL.iter().find(|counter| counter.name().as_bytes() == status);
        of_status
            .filter(|_| status.first().is_some_and(u8::is_ascii_digit))
            .into_iter()
            .for_each(|counter| self.add(*counter, 1));
        self.add(if status == b"0" { GrpcCounter::Success } else { GrpcCounter::Failure }, 1);
        self.add(GrpcCounter::Total, 1);
    }
}

/// A route configuration that a connection manager subscribes to:
/// `http.<stat_prefix>.rds.<route_config>.…`. The scope's name is `<stat_prefix>.rds.<route_config>`.
#[derive(Clone, Copy, Debug)]
pub enum Rds {}

impl Rds {
    /// The scope's name.
    pub fn scope_name(stat_prefix: &str, route_config: &str) -> String {
        format!("{stat_prefix}{RDS_INFIX}{route_config}")
    }
}

const RDS_INFIX: &str = ".rds.";

impl Scope for Rds {
    type Counter = RdsCounter;
    type Gauge = RdsGauge;
    type Histogram = RdsHistogram;
    const PREFIX: &'static str = Http::PREFIX;
    const LABEL: Option<&'static str> = Http::LABEL;
    const FAMILY: &'static str = "http_rds";
    const BY_STATUS: Option<&'static str> = None;

    fn labels(name: &str) -> Labels<'_> {
        let (prefix, route_config) = name.split_once(RDS_INFIX).unwrap_or((name, ""));
        let [prefix, ..] = Http::labels(prefix);
        [prefix, Some(("rds_route_config", route_config)), None]
    }
}

metric!(
    RdsCounter,
    "Counters of [`Rds`].",
    /// Configurations applied that differ from the one before.
    ConfigReload = "config_reload",
    /// Subscriptions and responses.
    UpdateAttempt = "update_attempt",
    /// Responses accepted.
    UpdateSuccess = "update_success",
    /// Fetches that failed.
    UpdateFailure = "update_failure",
    /// Responses refused.
    UpdateRejected = "update_rejected",
    /// Responses without content.
    UpdateEmpty = "update_empty",
);
metric!(
    RdsGauge,
    "Gauges of [`Rds`].",
    /// Hash of the last accepted version.
    Version = "version",
);
metric!(RdsHistogram, "Histograms of [`Rds`].",);
