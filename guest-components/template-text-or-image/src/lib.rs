//! A text or an image: what models with a tower for each take.

use serde::Deserialize;
use tenon_sdk::errors::{invalid_request, server_error};
use tenon_sdk::preprocessor::Preprocessor;
use tenon_sdk::role_settings;
use tenon_sdk::template::{Crop, Guest, ImageRun, ImageSize, RenderOptions, Rendered, Segment};
use tenon_sdk::types::{ApiError, EmbedInput, Message, Part};

/// Stands for an image where the text tower expects a token; any does.
const PLACEHOLDER: u32 = 0;

/// The component.
pub struct TextOrImage;

impl Guest for TextOrImage {
    fn render(
        inputs: Vec<EmbedInput>,
        images: Vec<ImageSize>,
        options: RenderOptions,
    ) -> Result<Vec<Rendered>, ApiError> {
        let settings: Settings = role_settings().map_err(server_error)?;
        let (edge, crop) = settings
            .preprocessor
            .shortest_edge_and_crop()
            .map_err(server_error)?;
        if options.prompt_name.is_some() {
            return Err(invalid_request("prompt_name", "this model has no prompts"));
        }
        if options.instruction.is_some() {
            let message = "this model takes no instructions";
            return Err(invalid_request("instruction", message));
        }
        let frame = Frame { edge, crop };
        let render = |(index, input)| {
            let (segment, is_text) = frame.segment(index, input, &images)?;
            Ok(Rendered {
                segments: vec![segment],
                add_special_tokens: is_text && options.add_special_tokens,
                excluded_prompt: None,
            })
        };
        inputs.into_iter().enumerate().map(render).collect()
    }
}

/// What the host derives from the checkpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    preprocessor: Preprocessor,
}

/// What is kept of an image: the square of side `crop` in its middle, once its shorter side
/// is `edge`.
struct Frame {
    edge: u32,
    crop: u32,
}

impl Frame {
    /// What an input becomes, and whether it is text.
    fn segment(
        &self,
        index: usize,
        input: EmbedInput,
        images: &[ImageSize],
    ) -> Result<(Segment, bool), ApiError> {
        let mut param = format!("input[{index}]");
        let parts = match input {
            EmbedInput::Tokens(ids) => return Ok((Segment::Tokens(ids), true)),
            EmbedInput::Parts(parts) => parts,
            EmbedInput::Messages(messages) => {
                param = "messages".to_owned();
                match <[Message; 1]>::try_from(messages) {
                    Ok([message]) => message.parts,
                    Err(_) => {
                        let what = "this model takes one message, of a text or an image";
                        return Err(invalid_request(&param, what));
                    }
                }
            }
        };
        match <[Part; 1]>::try_from(parts) {
            Ok([Part::Text(text)]) => Ok((Segment::Text(text), true)),
            Ok([Part::Image(image)]) => match images.get(image as usize) {
                Some(size) => Ok((Segment::Image(self.run(image, *size)), false)),
                None => Err(server_error(format!("there is no image {image}"))),
            },
            Ok([Part::Video(_)]) => Err(invalid_request(&param, "videos are not supported")),
            Err(_) => {
                let what = "this model embeds a text or an image, not several at once: give each \
                    as an input of its own";
                Err(invalid_request(&param, what))
            }
        }
    }

    fn run(&self, image: u32, size: ImageSize) -> ImageRun {
        let resize = self.resize(size);
        let side = self.crop;
        ImageRun {
            image,
            resize,
            crop: Crop {
                left: (resize.width - side) / 2,
                top: (resize.height - side) / 2,
                size: ImageSize {
                    width: side,
                    height: side,
                },
            },
            token: PLACEHOLDER,
            rows: 1,
            columns: 1,
        }
    }

    /// The shorter side becomes `edge`; the other keeps the proportion, rounded down.
    fn resize(&self, size: ImageSize) -> ImageSize {
        let (short, long) = (size.width.min(size.height), size.width.max(size.height));
        let scaled = f64::from(self.edge) * f64::from(long) / f64::from(short.max(1));
        let long = (scaled as u32).max(self.edge);
        match size.width <= size.height {
            true => ImageSize {
                width: self.edge,
                height: long,
            },
            false => ImageSize {
                width: long,
                height: self.edge,
            },
        }
    }
}

tenon_sdk::export_template!(TextOrImage);

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [ImageSize; 2] = [
        ImageSize {
            width: 61,
            height: 37,
        },
        ImageSize {
            width: 1,
            height: 10_000,
        },
    ];

    fn segment(parts: Vec<Part>) -> Result<(Segment, bool), ApiError> {
        let frame = Frame { edge: 36, crop: 32 };
        frame.segment(3, EmbedInput::Parts(parts), &SIZES)
    }

    #[test]
    fn images_are_cut_out_of_the_middle() {
        let run = |image| match segment(vec![Part::Image(image)]) {
            Ok((Segment::Image(run), false)) => run,
            other => panic!("{other:?}"),
        };
        let wide = run(0);
        assert_eq!((wide.resize.width, wide.resize.height), (59, 36));
        assert_eq!((wide.crop.left, wide.crop.top), (13, 2));
        let tall = run(1);
        assert_eq!((tall.resize.width, tall.resize.height), (36, 360_000));
        assert_eq!((tall.crop.left, tall.crop.top), (2, 179_984));
    }

    #[test]
    fn takes_one_text_or_one_image() {
        let text = || Part::Text("a".to_owned());
        assert!(matches!(
            segment(vec![text()]),
            Ok((Segment::Text(_), true))
        ));
        for parts in [vec![Part::Image(0), text()], vec![], vec![Part::Video(0)]] {
            let error = segment(parts).expect_err("refused");
            assert_eq!(
                (error.status, error.param.as_deref()),
                (400, Some("input[3]"))
            );
        }
    }
}
