//! Swarm, nodes, services, tasks, secrets and configs (Engine API): what an Engine that is in
//! no swarm says. There is no cluster here that one could join.

use super::ApiError;

/// Docker's words for whatever only a manager of a swarm can do. Clients that look for an
/// object of any kind go on then.
pub(super) const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
     to connect this node to swarm and try again.";
const NOT_A_MEMBER: &str = "This node is not part of a swarm";

/// What is said to a request of these kinds; `None` where Docker has no such route.
#[must_use]
pub fn refusal(method: &str, segments: &[&str]) -> Option<ApiError> {
    let not_a_manager = match (method, segments) {
        ("POST", ["swarm", "init" | "join"]) => {
            return Some(ApiError::not_implemented(
                "a swarm is not possible with sockerless, which has no machines that could join one: \
                 run single containers, or a compose file",
            ));
        }
        ("POST", ["swarm", "leave"]) => return Some(ApiError::new(503, NOT_A_MEMBER)),
        ("GET", ["swarm"] | ["swarm", "unlockkey"])
        | ("POST", ["swarm", "update" | "unlock"])
        | ("GET", ["nodes" | "services" | "tasks" | "secrets" | "configs"])
        | ("GET", ["nodes" | "services" | "tasks" | "secrets" | "configs", _])
        | ("GET", ["services" | "tasks", _, "logs"])
        | ("POST", ["services" | "secrets" | "configs", "create"])
        | ("POST", ["nodes" | "services" | "secrets" | "configs", _, "update"])
        | ("DELETE", ["nodes" | "services" | "secrets" | "configs", _]) => true,
        _ => false,
    };
    not_a_manager.then(|| ApiError::new(503, NOT_A_MANAGER))
}
