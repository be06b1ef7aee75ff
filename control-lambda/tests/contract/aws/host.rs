//! [`LambdaHost`] does what every host does. What else it does: [`super::functions`].

use async_trait::async_trait;
use sockerless_control::aws::functions::LambdaHost;
use sockerless_control::ports::FunctionHost;
use sockerless_control::ports::function_host::FunctionShape;

use super::functions::{LIMIT, host, shape_of};
use crate::host::{Place, host_cases};

struct Lambda {
    host: LambdaHost,
    case: &'static str,
}

#[async_trait(?Send)]
impl Place for Lambda {
    fn host(&self) -> &dyn FunctionHost {
        &self.host
    }

    fn shape(&self) -> FunctionShape {
        let hex: String = self
            .case
            .bytes()
            .rev()
            .take(32)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        shape_of(&format!("sha256:{hex:0>64}"))
    }

    async fn settle(&self) {
        self.host.work(LIMIT).await.unwrap();
    }
}

macro_rules! tests {
    ($($case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let case = stringify!($case);
                let place = Lambda { host: host(case).await, case };
                crate::host::$case(&place).await;
            }
        )*
    };
}

host_cases!(tests);
