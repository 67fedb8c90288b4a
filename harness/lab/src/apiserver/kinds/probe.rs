//! Probes: defaults and validity.

use k8s_openapi::{
    api::core::v1::{HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::container::validate_choice;
use crate::apiserver::{
    field::{Path, Problems},
    syntax,
};

/// How many successes a probe may ask for before it counts as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Success {
    Once,
    Several,
}

pub(super) fn set_defaults(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(http) = &mut probe.http_get {
        set_http_defaults(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

pub(super) fn set_http_defaults(http: &mut HTTPGetAction) {
    http.path.get_or_insert_with(|| "/".to_owned());
    http.scheme.get_or_insert_with(|| "HTTP".to_owned());
}

pub(super) fn validate(probe: &Probe, success: Success, path: &Path<'_>, problems: &mut Problems) {
    let handlers = [
        probe.exec.is_some(),
        probe.grpc.is_some(),
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
    ];
    match handlers.iter().filter(|set| **set).count() {
        0 => problems.required(path, "must specify a handler type"),
        1 => {}
        _ => problems.forbidden(path, "may not specify more than 1 handler type"),
    }
    if let Some(exec) = &probe.exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        problems.required(&path.field("exec").field("command"), "");
    }
    if let Some(http) = &probe.http_get {
        let path = path.field("httpGet");
        validate_port(&http.port, &path.field("port"), problems);
        let scheme = http.scheme.as_deref();
        validate_choice(scheme, &["HTTP", "HTTPS"], &path.field("scheme"), problems);
    }
    if let Some(tcp) = &probe.tcp_socket {
        validate_port(&tcp.port, &path.field("tcpSocket").field("port"), problems);
    }
    let counts = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, count) in counts {
        if let Some(count) = count.filter(|count| *count < 0) {
            problems.invalid(
                &path.field(name),
                count,
                "must be greater than or equal to 0",
            );
        }
    }
    if success == Success::Once && probe.success_threshold.is_some_and(|count| count != 1) {
        problems.invalid(
            &path.field("successThreshold"),
            probe.success_threshold,
            "must be 1",
        );
    }
}

pub(super) fn validate_port(port: &IntOrString, path: &Path<'_>, problems: &mut Problems) {
    match port {
        IntOrString::Int(number) => {
            if let Err(why) = syntax::port_number(*number) {
                problems.invalid(path, number, why);
            }
        }
        IntOrString::String(name) => {
            if let Err(why) = syntax::port_name(name) {
                problems.invalid(path, name, why);
            }
        }
    }
}
