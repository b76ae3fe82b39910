//! WasmPlugin and TrafficExtension.

use std::collections::BTreeSet;

use crate::istio::extensions::v1alpha1::traffic_extension::FilterConfig;
use crate::istio::extensions::v1alpha1::{EnvValueSource, TrafficExtension, VmConfig, WasmPlugin};
use crate::selector::PortSelector;
use crate::validate::checker::Checker;
use crate::validate::common::port;
use crate::validate::policy;

/// Largest Lua script, in bytes. Source: Istio's webhook.
const LUA_BYTES_MAX: usize = 65_536;

/// Longest names. Source: Istio's webhook.
const SECRET_NAME_BYTES_MAX: usize = 253;
const NAME_BYTES_MAX: usize = 256;

pub(crate) fn check_wasm_plugin(checker: &mut Checker, spec: &WasmPlugin) {
    policy::targets(checker, spec.selector.as_ref(), spec.target_ref.as_ref(), &spec.target_refs);
    module(checker, &spec.url, &spec.sha256, &spec.image_pull_secret, &spec.plugin_name);
    checker.set("vmConfig", spec.vm_config.as_ref(), vm_config);
    checker.each("match", &spec.r#match, |checker, found| ports(checker, &found.ports));
}

pub(crate) fn check_traffic_extension(checker: &mut Checker, spec: &TrafficExtension) {
    policy::targets(checker, spec.selector.as_ref(), None, &spec.target_refs);
    match &spec.filter_config {
        Some(FilterConfig::Wasm(wasm)) => checker.field("wasm", |checker| {
            module(checker, &wasm.url, &wasm.sha256, &wasm.image_pull_secret, &wasm.plugin_name);
            checker.set("vmConfig", wasm.vm_config.as_ref(), vm_config);
        }),
        Some(FilterConfig::Lua(lua)) => checker.field("lua", |checker| {
            checker.field("inlineCode", |checker| {
                if lua.inline_code.is_empty() {
                    checker.error("lua.inlineCode cannot be empty");
                } else if lua.inline_code.len() > LUA_BYTES_MAX {
                    checker.error(format!("{} bytes; {LUA_BYTES_MAX} are allowed", lua.inline_code.len()));
                }
            });
        }),
        None => {
            checker.error("exactly one of wasm or lua must be set");
        }
    }
    checker.each("match", &spec.r#match, |checker, found| ports(checker, &found.ports));
}

fn ports(checker: &mut Checker, list: &[PortSelector]) {
    checker.each("ports", list, |checker, value| port(checker, value.number));
}

fn module(checker: &mut Checker, url: &str, sha256: &str, secret: &str, name: &str) {
    checker.field("url", |checker| match url.split_once("://") {
        _ if url.is_empty() => {
            checker.error("url field needs to be set");
        }
        Some((scheme, _)) if !matches!(scheme, "file" | "http" | "https" | "oci") => {
            checker.error(format!("unsupported scheme: {scheme}")).fix("use oci, https, http or file");
        }
        _ => {}
    });
    let is_digest = sha256.len() == 64
        && sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !sha256.is_empty() && !is_digest {
        checker.field("sha256", |checker| {
            checker.error("sha256 field must match [a-f0-9]{64} pattern");
        });
    }
    for (field, text, bytes_max) in
        [("imagePullSecret", secret, SECRET_NAME_BYTES_MAX), ("pluginName", name, NAME_BYTES_MAX)]
    {
        if text.len() > bytes_max {
            checker.field(field, |checker| {
                checker.error(format!("{} bytes; {bytes_max} are allowed", text.len()));
            });
        }
    }
}

fn vm_config(checker: &mut Checker, config: &VmConfig) {
    let mut seen = BTreeSet::new();
    checker.each("env", &config.env, |checker, variable| {
        if variable.name.is_empty() || variable.name.len() > NAME_BYTES_MAX {
            checker
                .error(format!("a name of {} bytes; 1 to {NAME_BYTES_MAX} are allowed", variable.name.len()));
        } else if !seen.insert(variable.name.as_str()) {
            checker.error(format!("duplicate env `{}`", variable.name));
        }
        if variable.value_from() != EnvValueSource::Inline && !variable.value.is_empty() {
            checker.error("`value` and `valueFrom` exclude each other");
        }
    });
}
