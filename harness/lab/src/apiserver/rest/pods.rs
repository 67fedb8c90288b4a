//! What can be done to pods beside reading and writing them: binding one to a node.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Mode, Rest, now_in_seconds};
use crate::apiserver::{object::Key, registry::PODS, status::Status};

impl Rest {
    /// Binds a pod to a node, once and for all: no ordinary update may do that.
    pub(crate) fn bind(&self, key: &Key, node: &str) -> Result<(), Status> {
        let _writing = self.write_lock();
        let current = self.get(&PODS, key)?;
        let refuse = |why: String| Err(Status::conflict(&PODS, &key.name, why));
        if current.is_terminating() {
            return refuse(format!(
                "pod {} is being deleted, cannot be assigned to a host",
                key.name
            ));
        }
        let mut value = current.value().clone();
        if let Some(bound) = value["spec"]["nodeName"]
            .as_str()
            .filter(|node| !node.is_empty())
        {
            let why = format!("pod {} is already assigned to node \"{bound}\"", key.name);
            return refuse(why);
        }
        value["spec"]["nodeName"] = node.into();
        set_scheduled(&mut value, Timestamp::now());
        self.store_update(&current, value, Mode::Store).map(drop)
    }
}

fn set_scheduled(pod: &mut Value, now: Timestamp) {
    let since = now_in_seconds(now);
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": since});
    let status = &mut pod["status"];
    match status["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|condition| condition["type"] != "PodScheduled");
            conditions.push(scheduled);
        }
        None => status["conditions"] = json!([scheduled]),
    }
}
