//! `google.longrunning.Operations`: the queue's operations, to look at and to end.

use ashlar_proto::wire::longrunning::operations_server::Operations;
use ashlar_proto::wire::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation,
};
use tonic::{Request, Response, Status, async_trait};

use super::execution::{named, right};
use crate::audit::What;
use crate::dispatch::Dispatch;
use crate::dispatch::name::instance_of_collection;
use crate::stores::Stores;

/// The service.
#[derive(Debug, Clone)]
pub struct OperationsService {
    /// Who may do what where.
    pub stores: Stores,
    /// The queue.
    pub dispatch: Dispatch,
}

#[async_trait]
impl Operations for OperationsService {
    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let (name, _) = named(&self.stores, &request, &request.get_ref().name)?;
        Ok(Response::new(self.dispatch.leading()?.get(&name)?))
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let instance = instance_of_collection(&request.get_ref().name)?;
        let right = right(&request, &instance);
        self.stores.open(&request, &instance, right)?;
        let request = request.into_inner();
        if !request.filter.is_empty() {
            return Err(Status::unimplemented("operations cannot be filtered here"));
        }
        let size = usize::try_from(request.page_size)
            .map_err(|_| Status::invalid_argument("page_size is negative"))?;
        let dispatcher = self.dispatch.leading()?;
        let page = dispatcher.operations(&instance, size, &request.page_token)?;
        Ok(Response::new(page))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let (name, view) = named(&self.stores, &request, &request.get_ref().name)?;
        let cancelled = self.dispatch.leading()?.cancel(&name, view.caller());
        view.note(What::Cancel, |event| {
            let event = event.with("operation", format!("{:032x}", name.id));
            match &cancelled {
                Ok(()) => event,
                Err(status) => event.ended(status),
            }
        });
        cancelled.map(Response::new)
    }

    async fn delete_operation(
        &self,
        request: Request<DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        named(&self.stores, &request, &request.get_ref().name)?;
        // They are forgotten after a while, and others may still want to know what came of them.
        Err(Status::unimplemented(
            "operations are not deleted: cancel them, and they are forgotten in time",
        ))
    }
}
