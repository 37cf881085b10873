"""Networks of the package transformers with gates held: each class small and with random weights, downloaded nothing.

``make huggingface`` runs all of them and writes docs/huggingface.md; tests/capture/test_smooth_architectures.py runs
a few.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as T
from torch import Tensor, nn

import maxaffine as ma

PAGE = Path(__file__).parents[1] / "docs" / "huggingface.md"


class Part(nn.Module):
    """A model of transformers as a function of one tensor: by the name of the argument, to one of its outputs."""

    def __init__(self, model: nn.Module, argument: str, output: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.argument, self.output, self.options = model, argument, output, dict(options)

    def forward(self, x: Tensor) -> Tensor:
        given = self.options.items()
        options = {key: item.to(x).expand(x.shape[0], -1, -1) if torch.is_tensor(item) else item for key, item in given}
        return self.model(**{self.argument: x}, **options)[self.output]


@dataclass(frozen=True)
class Case:
    """A class of transformers.

    Attributes:
        name: What the page calls it.
        model: The name of the class.
        settings: Of its configuration.
        shape: Of an example, with two samples.
        argument: The name of the input.
        output: The name of the output.
        options: Further arguments of the call.
        part: The submodule that is taken.
        carrier: Of the products that ask.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    shape: tuple[int, ...]
    argument: str
    output: str = "last_hidden_state"
    options: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    carrier: Mapping[str, str] = field(default_factory=dict)

    def build(self, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
        """The model and an example."""
        torch.manual_seed(0)
        cls = getattr(T, self.model)
        model = cls(cls.config_class(**self.settings)).get_submodule(self.part)
        for norm in model.modules():  # running statistics as of a network that was trained
            if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
                nn.init.normal_(norm.running_mean, 0, 0.1)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)
        return Part(model, self.argument, self.output, self.options).to(dtype).eval(), torch.randn(*self.shape).to(
            dtype
        )


def encoder(name: str, model: str, **more: Any) -> Case:
    """A text encoder, from embeddings to its last hidden state."""
    return Case(name, model, WIDTHS | more, (2, 6, 32), "inputs_embeds")


def decoder(name: str, model: str, *carrier: Mapping[str, str], **more: Any) -> Case:
    """A causal language model, from embeddings to logits."""
    options = {"use_cache": False}
    return Case(name, model, WIDTHS | more, (2, 6, 32), "inputs_embeds", "logits", options, carrier=dict(*carrier))


def vision(name: str, model: str, **more: Any) -> Case:
    """A vision transformer, from pixels to its last hidden state."""
    return Case(name, model, WIDTHS | {"image_size": 32, "patch_size": 8} | more, (2, 3, 32, 32), "pixel_values")


def stages(name: str, model: str, size: int = 32, **settings: Any) -> Case:
    """A vision network in stages, which has sizes of its own."""
    return Case(name, model, settings, (2, 3, size, size), "pixel_values")


def speech(name: str, model: str, **more: Any) -> Case:
    """A network of raw sound."""
    return Case(name, model, WIDTHS | SOUND | more, (2, 200), "input_values")


WIDTHS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 50,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
SPECTROGRAM = WIDTHS | {"patch_size": 8, "max_length": 32, "num_mel_bins": 16, "frequency_stride": 8, "time_stride": 8}
VIDEO = WIDTHS | {"image_size": 32, "patch_size": 8, "num_frames": 2, "tubelet_size": 2}
SOUND: dict[str, Any] = {
    "conv_dim": [8, 8],
    "conv_stride": [4, 2],
    "conv_kernel": [8, 3],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embedding_groups": 2,
    "num_conv_pos_embeddings": 8,
}
GROUPED: dict[str, Any] = {"num_key_value_heads": 2}
HEADS: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "experts_implementation": "batched_mm",
}
SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
    "num_mel_bins": 8,
    "max_source_positions": 20,
    "max_position_embeddings": 32,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 50}
XLNET = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "vocab_size": 50}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 2, 2, 2]}
WINDOWS: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 4,
}
FOCAL: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "focal_levels": [2, 2],
    "focal_windows": [3, 3],
}
LEVIT: dict[str, Any] = {
    "image_size": 64,
    "hidden_sizes": [16, 24, 32],
    "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
}
MOBILEVIT: dict[str, Any] = {
    "image_size": 64,
    "hidden_sizes": [16, 24, 32],
    "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32],
}
EFFICIENT: dict[str, Any] = {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320}
SCANNED = {"*.mixer.bmm*": "self"}  # the state carries, C gates it
CHUNKED = {"*.mixer.bmm#2": "mat2", "*.mixer.bmm#3": "self"}  # the input carries, B and C gate it
DECODED = {"decoder_inputs_embeds": torch.linspace(-1, 1, 96).reshape(1, 3, 32), "use_cache": False}

CASES = [
    encoder("BERT", "BertModel"),
    encoder("RoBERTa", "RobertaModel"),
    encoder("DistilBERT", "DistilBertModel", dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    encoder("ALBERT", "AlbertModel", embedding_size=32),
    encoder("ELECTRA", "ElectraModel", embedding_size=32),
    encoder("DeBERTa", "DebertaModel"),
    encoder("DeBERTa v2", "DebertaV2Model"),
    encoder("MPNet", "MPNetModel"),
    encoder("ModernBERT", "ModernBertModel"),
    encoder("ConvBERT", "ConvBertModel", embedding_size=32),
    encoder("SqueezeBERT", "SqueezeBertModel", embedding_size=32),
    encoder("FNet", "FNetModel"),
    Case("XLNet", "XLNetModel", XLNET, (2, 6, 32), "inputs_embeds", options={"use_mems": False}),
    Case("T5 encoder", "T5EncoderModel", T5, (2, 6, 32), "inputs_embeds"),
    Case("T5, whole", "T5Model", T5 | {"pad_token_id": 0}, (2, 6, 32), "inputs_embeds", options=DECODED),
    Case("BART encoder", "BartModel", SEQ2SEQ, (2, 6, 32), "inputs_embeds", part="encoder"),
    decoder("GPT-2", "GPT2LMHeadModel", n_embd=32, n_layer=2, n_head=4),
    decoder("GPT-Neo", "GPTNeoForCausalLM", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]),
    decoder("GPT-J", "GPTJForCausalLM", n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
    decoder("GPT-NeoX", "GPTNeoXForCausalLM"),
    decoder("OPT", "OPTForCausalLM", ffn_dim=64, word_embed_proj_dim=32),
    decoder("BLOOM", "BloomForCausalLM", n_layer=2, n_head=4),
    decoder("MPT", "MptForCausalLM", d_model=32, n_layers=2, n_heads=4, max_seq_len=32),
    decoder("Falcon", "FalconForCausalLM"),
    decoder("Llama", "LlamaForCausalLM", **GROUPED),
    decoder("Mistral", "MistralForCausalLM", sliding_window=3, **GROUPED),
    decoder("Mixtral", "MixtralForCausalLM", **GROUPED, **EXPERTS),
    decoder("Qwen2", "Qwen2ForCausalLM", **GROUPED),
    decoder("Qwen3", "Qwen3ForCausalLM", **HEADS),
    decoder("Qwen3 MoE", "Qwen3MoeForCausalLM", **HEADS, **EXPERTS),
    decoder("Gemma", "GemmaForCausalLM", **HEADS),
    decoder("Gemma 2", "Gemma2ForCausalLM", **HEADS),
    decoder("Gemma 3", "Gemma3ForCausalLM", **HEADS),
    decoder("Phi", "PhiForCausalLM"),
    decoder("Phi-3", "Phi3ForCausalLM", **GROUPED),
    decoder("StableLM", "StableLmForCausalLM", **GROUPED),
    decoder("OLMo 2", "Olmo2ForCausalLM", **GROUPED),
    decoder("Cohere", "CohereForCausalLM", **GROUPED),
    decoder("Granite", "GraniteForCausalLM", **GROUPED),
    decoder("gpt-oss", "GptOssForCausalLM", **HEADS, **EXPERTS),
    decoder("Mamba", "MambaForCausalLM", state_size=4),
    decoder("FalconMamba", "FalconMambaForCausalLM", SCANNED, state_size=4),
    decoder("Mamba-2", "Mamba2ForCausalLM", CHUNKED, num_heads=8, head_dim=8, state_size=4, n_groups=1, chunk_size=4),
    decoder("RWKV", "RwkvForCausalLM", attention_hidden_size=32, context_length=16),
    decoder("RecurrentGemma", "RecurrentGemmaForCausalLM", lru_width=32, num_hidden_layers=3),
    vision("ViT", "ViTModel"),
    vision("DeiT", "DeiTModel"),
    vision("BEiT", "BeitModel"),
    vision("DINOv2", "Dinov2Model"),
    vision("DINOv3", "DINOv3ViTModel"),
    vision("CLIP vision", "CLIPVisionModel"),
    vision("SigLIP vision", "SiglipVisionModel"),
    vision("ViT-MSN", "ViTMSNModel"),
    Case("Audio spectrogram transformer", "ASTModel", SPECTROGRAM, (2, 32, 16), "input_values"),
    Case("VideoMAE", "VideoMAEModel", VIDEO, (2, 2, 3, 32, 32), "pixel_values"),
    stages("Swin", "SwinModel", **WINDOWS),
    stages("Swin v2", "Swinv2Model", **WINDOWS),
    stages("ConvNeXt", "ConvNextModel", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
    stages("ConvNeXt v2", "ConvNextV2Model", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
    stages("SegFormer", "SegformerModel", 64, **STAGES),
    stages("PVT v2", "PvtV2Model", 64, **STAGES),
    stages("PoolFormer", "PoolFormerModel", 64, hidden_sizes=[8, 16, 16, 16], depths=[1] * 4),
    stages("FocalNet", "FocalNetModel", **FOCAL),
    stages("LeViT", "LevitModel", 64, **LEVIT),
    stages("MobileViT", "MobileViTModel", 64, **MOBILEVIT),
    stages("MobileNet v2", "MobileNetV2Model", 64, depth_multiplier=0.25),
    stages("EfficientNet", "EfficientNetModel", 64, **EFFICIENT),
    stages("ResNet", "ResNetModel", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    stages("RegNet", "RegNetModel", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4),
    stages("BiT", "BitModel", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_groups=4),
    Case("Whisper encoder", "WhisperModel", SEQ2SEQ, (2, 8, 40), "input_features", part="encoder"),
    speech("wav2vec 2.0", "Wav2Vec2Model"),
    speech("HuBERT", "HubertModel"),
    speech("WavLM", "WavLMModel"),
    speech("wav2vec 2.0 Conformer", "Wav2Vec2ConformerModel"),
]


@dataclass(frozen=True)
class Result:
    """What a capture of one class gave.

    Attributes:
        errors: |A x + b - f| / |f| in each type.
        offset: |b| / |f|.
        seconds: Of the last capture, on one processor.
        refusal: Why there was none.
    """

    errors: tuple[float, ...] = ()
    offset: float = 0.0
    seconds: float = 0.0
    refusal: str = ""


def run(case: Case, *dtypes: torch.dtype) -> Result:
    """Capture a class and compare it with the untouched module, in each of these types."""
    errors, offset, seconds = [], 0.0, 0.0
    for dtype in dtypes:
        model, x = case.build(dtype)
        with torch.no_grad():
            value = model(x)
        start = time.process_time()
        try:
            net = ma.capture(model, x, smooth="frozen", carrier=case.carrier)
        except ma.MaxAffineError as error:
            return Result(refusal=str(error))
        seconds = time.process_time() - start
        local = net.affine_map(x)
        errors.append(float((local(x) - value).norm() / value.norm()))
        offset = float(torch.as_tensor(local.offsets).norm() / value.norm())
    return Result(tuple(errors), offset, seconds)


def main() -> None:
    """Run all classes and write the page."""
    warnings.filterwarnings("ignore")
    T.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rows, refused = [], []
    for case in CASES:
        result = run(case, torch.float64, torch.float32)
        if result.refusal:
            refused.append(f"- {case.name} (`{case.model}`): {' '.join(result.refusal.splitlines()[0].split())}.")
        else:
            said = ", ".join(f"`{name}`: `{factor}`" for name, factor in case.carrier.items())
            errors = " | ".join(f"{error:.0e}" if error else "0" for error in result.errors)
            share = f"{result.offset:.2f} | {said} | {result.seconds:.1f}"
            rows.append(f"| {case.name} | `{case.model}` | {errors} | {share} |")
        print((refused if result.refusal else rows)[-1], flush=True)
    listing = "\n".join(refused) or "Of the classes above none; but"
    text = TEXT.format(version=T.__version__, count=len(CASES), rows="\n".join(rows), refused=listing)
    PAGE.write_text(text)


TEXT = """# Networks of Hugging Face

{count} classes of [transformers](https://huggingface.co/docs/transformers) {version}, each small and with random
weights, captured with their gates held at the input, `ma.capture(model, x, smooth="frozen")`: text models from
`inputs_embeds`, vision models from pixels, sound from its samples or its spectrogram. The two errors are
|A x + b - f| / |f| against the untouched module, in float64 and in float32; the *offset* is |b| / |f|, near 1 where
random weights let little of the input through and the biases say most of the output. A *carrier* had to be named where
a product has two factors with equal claims. The seconds are those of the capture, on one processor.
`make huggingface` runs them again and writes this page.

| network | class | float64 | float32 | offset | carrier | seconds |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

## Refused

{refused}

- Mixtures of experts in their default form, which sorts the tokens of all samples by expert. The table has them with
  `experts_implementation="batched_mm"` in their configuration.
- RWKV before its first run, at which it rescales its own weights. Call `model(...)` once before the capture.

## Padding

A mask of padding (N, T), one where there is a token, is an input of the module like any other:
`ma.capture(model, (embeddings, attention_mask), smooth="frozen")` where `model(x, mask)` calls
`self.bert(inputs_embeds=x, attention_mask=mask)`. It is held with the gates, and every batch brings its own.

## Token ids

Ids are no numbers to be affine in. Capture what follows the table of embeddings, with its rows as the example:

```
class FromEmbeddings(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, embeddings):
        return self.model(inputs_embeds=embeddings, use_cache=False).logits

embeddings = model.get_input_embeddings()(ids).detach()
net = ma.capture(FromEmbeddings(model), embeddings, smooth="frozen")
```
"""

if __name__ == "__main__":
    main()
