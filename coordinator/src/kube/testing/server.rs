//! An API server in memory, for tests: it refuses what names another version or identity than it
//! holds, and keeps back a call or loses its answer where a test asks for it. What it does not do: it
//! answers a watch with a list, and a DELETE heeds neither finalizers nor preconditions. A kind that is
//! not in [`COLLECTIONS`] cannot be listed.

use std::{
    any::TypeId,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::kube::api::Resource;
use k8s_openapi::NamespaceResourceScope;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use super::objects::{NAMESPACE, merge};
use crate::kube::api::cluster::{Choice, Cluster};

/// A call that has not come by then is never made.
const ARRIVES_MAX: Duration = Duration::from_secs(10);

/// What can be listed.
const COLLECTIONS: [&str; 7] = [
    "configmaps",
    "deployments",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "statefulsets",
    "volumeattachments",
];

/// A server that runs as long as the test.
pub(crate) struct MemoryServer {
    address: SocketAddr,
    state: Arc<Mutex<ServerState>>,
}

#[derive(Default)]
struct ServerState {
    /// By their paths.
    objects: BTreeMap<String, Value>,
    version: u64,
    kept_back: Vec<KeptBack>,
}

struct KeptBack {
    method: &'static str,
    end: String,
    arrived: oneshot::Sender<()>,
    course: oneshot::Receiver<Course>,
    done: oneshot::Sender<()>,
}

/// What becomes of a call that was kept back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Course {
    /// It takes effect and is answered.
    Answered,
    /// It takes effect, and nobody hears of it.
    Unanswered,
    /// It never takes effect, and nobody hears of it.
    Lost,
}

/// A call that does not take effect before the test says so.
pub(crate) struct HeldCall {
    arrived: oneshot::Receiver<()>,
    course: oneshot::Sender<Course>,
    done: oneshot::Receiver<()>,
}

impl HeldCall {
    /// Waits until the call has come.
    pub(crate) async fn arrived(&mut self) {
        let arrived = timeout(ARRIVES_MAX, &mut self.arrived).await;
        arrived
            .expect("the call that is kept back never came")
            .unwrap();
    }

    /// Lets it go on, and waits until it has taken effect.
    pub(crate) async fn go(self, course: Course) {
        self.course.send(course).unwrap();
        self.done.await.unwrap();
    }
}

impl MemoryServer {
    /// A server that holds nothing.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<ServerState>>::default();
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, state }
    }

    /// A connection of its own to the namespace.
    pub(crate) async fn cluster(&self) -> Cluster {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "memory",
            "clusters": [{"name": "memory", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "memory", "user": {}}],
            "contexts": [{"name": "memory", "context": {
                "cluster": "memory", "user": "memory", "namespace": NAMESPACE,
            }}],
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_string()).unwrap();
        let choice = Choice {
            kubeconfig: Some(file.path().to_owned()),
            ..Choice::default()
        };
        Cluster::connect(&choice).await.unwrap()
    }

    /// Stores an object where objects of its kind are.
    pub(crate) fn store<K>(&self, object: &K)
    where
        K: Resource<DynamicType = ()> + Serialize,
        K::Scope: 'static,
    {
        let object = serde_json::to_value(object).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.put(&format!("{}/{name}", folder::<K>()), object);
    }

    fn put(&self, path: &str, object: Value) {
        self.state.lock().unwrap().store(path, object);
    }

    /// Forgets the object `name` of the kind `K`.
    pub(crate) fn remove<K>(&self, name: &str)
    where
        K: Resource<DynamicType = ()>,
        K::Scope: 'static,
    {
        let path = format!("{}/{name}", folder::<K>());
        self.state.lock().unwrap().objects.remove(&path);
    }

    /// The object whose path ends so.
    pub(crate) fn get(&self, end: &str) -> Option<Value> {
        let state = self.state.lock().unwrap();
        let mut objects = state.objects.iter();
        objects
            .find(|(path, _)| path.ends_with(end))
            .map(|(_, object)| object.clone())
    }

    /// Keeps back the next call of `method` for the object whose path ends so.
    pub(crate) fn hold(&self, method: &'static str, end: &str) -> HeldCall {
        let (arriving, arrived) = oneshot::channel();
        let (course, going) = oneshot::channel();
        let (doing, done) = oneshot::channel();
        self.state.lock().unwrap().kept_back.push(KeptBack {
            method,
            end: end.to_owned(),
            arrived: arriving,
            course: going,
            done: doing,
        });
        HeldCall {
            arrived,
            course,
            done,
        }
    }
}

/// Where objects of a kind are.
fn folder<K>() -> String
where
    K: Resource<DynamicType = ()>,
    K::Scope: 'static,
{
    let is_namespaced = TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>();
    K::url_path(&(), is_namespaced.then_some(NAMESPACE))
}

async fn serve(stream: TcpStream, state: Arc<Mutex<ServerState>>) {
    let mut stream = BufReader::new(stream);
    while let Some((method, target, body)) = request(&mut stream).await {
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path = match body["metadata"]["name"].as_str() {
            Some(name) if method == "POST" => format!("{path}/{name}"),
            _ => path.to_owned(),
        };
        let kept_back = state.lock().unwrap().kept_back(&method, &path);
        let (course, done) = match kept_back {
            None => (Course::Answered, None),
            Some(kept_back) => {
                let _ = kept_back.arrived.send(());
                (kept_back.course.await.unwrap(), Some(kept_back.done))
            }
        };
        let answer = (course != Course::Lost).then(|| {
            let mut state = state.lock().unwrap();
            state.answer(&method, &path, query, body)
        });
        if let Some(done) = done {
            let _ = done.send(());
        }
        let Some((code, answer)) = answer.filter(|_| course == Course::Answered) else {
            return;
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        // Whoever asked may be gone.
        let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
    }
}

/// The method, target and body of the next request; none when there comes no other.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, String, Value)> {
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some((method, target, body))
}

impl ServerState {
    fn kept_back(&mut self, method: &str, path: &str) -> Option<KeptBack> {
        let mut all = self.kept_back.iter();
        let at = all.position(|one| one.method == method && path.ends_with(&one.end))?;
        Some(self.kept_back.remove(at))
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}", self.version));
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &str, path: &str, query: &str, body: Value) -> (u16, Value) {
        let found = self.objects.get(path).cloned();
        let collection = path.rsplit('/').next().unwrap_or_default();
        match (method, found) {
            ("GET", None) if COLLECTIONS.contains(&collection) => (200, self.list(path, query)),
            ("GET", Some(found)) => (200, found),
            ("POST", None) => (201, self.store(path, body)),
            ("POST", Some(_)) => refused(409, "it exists already"),
            ("PATCH", Some(found)) => self.patch(path, &found, body),
            ("DELETE", Some(found)) => {
                self.objects.remove(path);
                (200, found)
            }
            (_, None) => refused(404, "there is no such object"),
            (_, Some(_)) => refused(405, "it cannot do that"),
        }
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let name = query
            .split('&')
            .find_map(|part| part.strip_prefix("fieldSelector=metadata.name%3D"));
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(at, _)| at.starts_with(&format!("{path}/")))
            .filter(|(at, _)| name.is_none_or(|name| at.ends_with(&format!("/{name}"))))
            .map(|(_, object)| object)
            .collect();
        json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items})
    }

    fn patch(&mut self, path: &str, found: &Value, change: Value) -> (u16, Value) {
        for key in ["uid", "resourceVersion"] {
            let named = &change["metadata"][key];
            if !named.is_null() && *named != found["metadata"][key] {
                return refused(409, "it has been changed");
            }
        }
        let mut changed = found.clone();
        merge(&mut changed, change);
        if found["immutable"] == json!(true) && changed["data"] != found["data"] {
            return refused(422, "it is immutable");
        }
        // What changes nothing makes no new version.
        if changed == *found {
            return (200, changed);
        }
        (200, self.store(path, changed))
    }
}

fn refused(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Invalid",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}
