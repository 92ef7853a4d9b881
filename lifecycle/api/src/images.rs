//! containerd.services.images.v1

use std::time::SystemTime;

use lifecycle_metadata::Image;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::images::v1 as api;
use wharf_kinds::Kind;

use crate::status::status;
use crate::storage::{Storage, blocking, scope};
use crate::wire;

pub(crate) struct ImagesService(pub(crate) Storage);

fn message(image: Image) -> api::Image {
    api::Image {
        name: image.name,
        labels: wire::label_map(image.labels),
        target: Some(wire::descriptor(image.target)),
        created_at: wire::timestamp(image.created),
        updated_at: wire::timestamp(image.updated),
    }
}

fn image(message: Option<api::Image>) -> Result<Image, Status> {
    let message = wire::required(message, "Image")?;
    if message.name.is_empty() {
        return Err(status(Kind::InvalidArgument, "Image.Name required"));
    }
    Ok(Image {
        name: message.name,
        labels: wire::labels(message.labels),
        target: wire::descriptor_from(message.target.unwrap_or_default())?,
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
    })
}

#[tonic::async_trait]
impl api::images_server::Images for ImagesService {
    async fn get(
        &self,
        request: Request<api::GetImageRequest>,
    ) -> Result<Response<api::GetImageResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let name = request.into_inner().name;
        let found = blocking(move || storage.metadata.images().get(&scope, &name)).await?;
        Ok(Response::new(api::GetImageResponse { image: Some(message(found)) }))
    }

    async fn list(
        &self,
        request: Request<api::ListImagesRequest>,
    ) -> Result<Response<api::ListImagesResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let filters = request.into_inner().filters;
        let found = blocking(move || storage.metadata.images().list(&scope, &filters)).await?;
        Ok(Response::new(api::ListImagesResponse { images: found.into_iter().map(message).collect() }))
    }

    async fn create(
        &self,
        request: Request<api::CreateImageRequest>,
    ) -> Result<Response<api::CreateImageResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let wanted = image(request.image)?;
        let epoch = wire::system_time(request.source_date_epoch);
        let made = blocking(move || storage.metadata.images().create(&scope, wanted, epoch)).await?;
        let made = message(made);
        Ok(Response::new(api::CreateImageResponse { image: Some(made) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateImageRequest>,
    ) -> Result<Response<api::UpdateImageResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let mask = wire::mask(request.update_mask);
        let mut wanted = request.image;
        let sets_target = mask.is_empty() || mask.iter().any(|path| path == "target");
        if let Some(message) = &mut wanted
            && !sets_target
        {
            // a client that changes labels alone sends no target; any digest will do, since it is not looked at
            let annotations = message.target.take().map(|target| target.annotations).unwrap_or_default();
            let digest = wharf_vocab::Digest::sha256(b"").to_string();
            let unused =
                wharf_containerd::containerd::types::Descriptor { digest, annotations, ..Default::default() };
            message.target = Some(unused);
        }
        let wanted = image(wanted)?;
        let epoch = wire::system_time(request.source_date_epoch);
        let updated =
            blocking(move || storage.metadata.images().update(&scope, &wanted, &mask, epoch)).await?;
        let updated = message(updated);
        Ok(Response::new(api::UpdateImageResponse { image: Some(updated) }))
    }

    async fn delete(&self, request: Request<api::DeleteImageRequest>) -> Result<Response<()>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let target = request.target.filter(|target| !target.digest.is_empty());
        let target = target.map(wire::descriptor_from).transpose()?.map(|target| target.digest);
        let name = request.name;
        blocking(move || storage.metadata.images().delete(&scope, &name, target.as_ref())).await?;
        if request.sync {
            let storage = self.0.clone();
            blocking(move || storage.collector.collect()).await?;
        }
        Ok(Response::new(()))
    }
}
