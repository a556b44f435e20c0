//! How large a volume that takes over a claim's data must be.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::select::ClaimMove;
use crate::kube::objects::quantity::amount;

/// The bytes to ask for: what the claim asks for, and no less than its volume has.
pub(crate) fn of(one: &ClaimMove<'_>) -> Option<u64> {
    let asked = one
        .claim
        .spec
        .as_ref()
        .and_then(|spec| storage(spec.resources.as_ref()?.requests.as_ref()));
    let has = one
        .volume
        .and_then(|volume| storage(volume.spec.as_ref()?.capacity.as_ref()));
    asked.max(has).filter(|size| *size > 0)
}

fn storage(amounts: Option<&BTreeMap<String, Quantity>>) -> Option<u64> {
    amount(amounts?.get("storage")?)
}
