//! Who may do what: tokens, roles, and the questions about them.

use http::{Request, StatusCode};
use k8s_openapi::api::{
    authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview},
    authorization::v1::SelfSubjectAccessReview,
    core::v1::{ConfigMap, Node, Pod, Secret, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Error,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NODE};

async fn create<K>(client: &Client, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::<K>::default_namespaced(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

async fn token(cluster: &Cluster, account: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client.clone());
    let request: TokenRequest = serde_json::from_value(json!({"spec": {}})).unwrap();
    let params = PostParams::default();
    let issued = accounts
        .create_token_request(account, &params, &request)
        .await
        .unwrap();
    issued.status.unwrap().token.unwrap()
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result.unwrap_err() {
        Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn without_a_good_token_only_health_and_version_are_told() {
    let cluster = Cluster::start().await;
    let wrong = cluster.client_with("wrong").await;
    let (code, message) = refused(Api::<Node>::all(wrong).list(&ListParams::default()).await);
    assert_eq!((code, message.as_str()), (401, "Unauthorized"));
    let nobody = cluster.anonymous().await;
    for (path, code) in [
        ("/version", StatusCode::OK),
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::OK),
        ("/livez", StatusCode::OK),
        ("/api/v1/nodes", StatusCode::UNAUTHORIZED),
        ("/metrics", StatusCode::UNAUTHORIZED),
        ("/apis", StatusCode::UNAUTHORIZED),
    ] {
        let request = Request::get(path)
            .body(kube::client::Body::empty())
            .unwrap();
        assert_eq!(nobody.send(request).await.unwrap().status(), code, "{path}");
    }
    let request = Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = cluster.client.request_text(request).await.unwrap();
    assert!(
        metrics.contains("\nprocess_cpu_seconds_total "),
        "{metrics}"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_no_more() {
    let cluster = Cluster::start().await;
    let admin = &cluster.client;
    create::<ServiceAccount>(admin, json!({"metadata": {"name": "robot"}})).await;
    let robot = cluster.client_with(&token(&cluster, "robot").await).await;
    let pods: Api<Pod> = Api::default_namespaced(robot.clone());
    let (code, message) = refused(pods.list(&ListParams::default()).await);
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "pods is forbidden: User \"system:serviceaccount:default:robot\" cannot list resource \
             \"pods\" in API group \"\" in the namespace \"default\""
        )
    );

    create::<Role>(admin, json!({
        "metadata": {"name": "reader"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get"]},
        ],
    })).await;
    create::<RoleBinding>(
        admin,
        json!({
            "metadata": {"name": "robot-reads"},
            "roleRef": {"kind": "Role", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
        }),
    )
    .await;
    pods.list(&ListParams::default()).await.unwrap();
    let (code, message) = refused(pods.portforward("web", &[80]).await.map(drop));
    assert_eq!(code, 403);
    assert!(
        message.contains("resource \"pods/portforward\""),
        "{message}"
    );
    create::<ConfigMap>(admin, json!({"metadata": {"name": "one"}})).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(robot.clone());
    maps.get("one").await.unwrap();
    assert_eq!(refused(maps.get("two").await).0, 403);
    let elsewhere: Api<Pod> = Api::namespaced(robot.clone(), "kube-system");
    assert_eq!(refused(elsewhere.list(&ListParams::default()).await).0, 403);

    let may = |verb: &str, resource: &str| {
        json!({"spec": {"resourceAttributes": {
            "verb": verb, "resource": resource, "namespace": "default",
        }}})
    };
    let ask = |review: Value| {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(robot.clone());
        async move {
            let review = serde_json::from_value(review).unwrap();
            let answer = reviews
                .create(&PostParams::default(), &review)
                .await
                .unwrap();
            answer.status.unwrap().allowed
        }
    };
    assert!(ask(may("list", "pods")).await);
    assert!(!ask(may("delete", "pods")).await);

    let accounts: Api<ServiceAccount> = Api::default_namespaced(admin.clone());
    accounts
        .delete("robot", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(refused(pods.list(&ListParams::default()).await).0, 401);
    cluster.stop().await;
}

#[tokio::test]
async fn tokens_tell_whose_they_are() {
    let cluster = Cluster::start().await;
    let token = token(&cluster, "default").await;
    let reviews: Api<TokenReview> = Api::all(cluster.client.clone());
    let review = |token: &str| {
        let review = serde_json::from_value(json!({"spec": {"token": token}})).unwrap();
        let reviews = reviews.clone();
        async move {
            reviews
                .create(&PostParams::default(), &review)
                .await
                .unwrap()
                .status
                .unwrap()
        }
    };
    let good = review(&token).await;
    assert_eq!(good.authenticated, Some(true));
    let name = good.user.unwrap().username.unwrap();
    assert_eq!(name, "system:serviceaccount:default:default");
    assert_ne!(review("wrong").await.authenticated, Some(true));

    let own: Api<SelfSubjectReview> = Api::all(cluster.client_with(&token).await);
    let me = serde_json::from_value(json!({})).unwrap();
    let answer = own.create(&PostParams::default(), &me).await.unwrap();
    assert_eq!(
        answer.status.unwrap().user_info.unwrap().username.unwrap(),
        name
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_may_do_its_work_and_not_read_roles() {
    let cluster = Cluster::start().await;
    let node = cluster.client_with("node-token").await;
    assert!(Api::<Node>::all(node.clone()).get(NODE).await.is_ok());
    assert!(
        Api::<Secret>::all(node.clone())
            .list(&ListParams::default())
            .await
            .is_ok()
    );
    let roles: Api<Role> = Api::default_namespaced(node);
    let (code, message) = refused(roles.list(&ListParams::default()).await);
    assert_eq!(code, 403);
    assert!(
        message.contains("User \"system:node:worker-1\" cannot list"),
        "{message}"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn an_administrator_can_act_as_somebody_else() {
    let cluster = Cluster::start().await;
    let request = |path: &str| {
        Request::get(path)
            .header("impersonate-user", "jane")
            .header("impersonate-group", "system:masters")
            .body(Vec::new())
            .unwrap()
    };
    cluster
        .client
        .request_text(request("/api/v1/nodes"))
        .await
        .unwrap();
    let as_jane = Request::get("/api/v1/nodes").header("impersonate-user", "jane");
    let as_jane = as_jane.body(Vec::new()).unwrap();
    let (code, message) = refused(cluster.client.request_text(as_jane).await);
    assert_eq!(code, 403);
    assert!(
        message.contains("User \"jane\" cannot list resource \"nodes\""),
        "{message}"
    );
    let node = cluster.client_with("node-token").await;
    let (code, _) = refused(node.request_text(request("/api/v1/nodes")).await);
    assert_eq!(code, 403);
    cluster.stop().await;
}
