"""Page for trying this model out, on this machine alone. Needs gradio, and what predict.py beside it needs.

python app.py
"""

import gradio as gr
from predict import Model, decode

model = Model()


def look(file):
    """Every class's probability for the bars, and which are present."""
    if file is None:
        return None, []
    try:
        p = model(decode(file, model.size)[None])[0]
    except Exception as fault:  # whatever decoders raise on damaged bytes
        raise gr.Error(f"this image cannot be read: {fault}", print_exception=False) from None
    rows = zip(model.names, p, model.thresholds, model.present(p), strict=True)
    ranked = sorted(
        ([name, round(float(p), 4), round(float(t), 4), "yes" if there else ""] for name, p, t, there in rows),
        key=lambda r: -r[1],
    )
    return ", ".join(name for name, _, _, there in ranked if there) or "(no class present)", ranked


demo = gr.Interface(
    look,
    gr.Image(type="filepath", image_mode=None, label="image"),
    [
        gr.Textbox(label="present"),
        gr.Dataframe(
            label="every class",
            headers=["class", "probability", "threshold", "present"],
            datatype=["str", "number", "number", "str"],
        ),
    ],
    title="What is in this image?",
    description="A class is present where its probability reaches its threshold. Nothing leaves this machine.",
    flagging_mode="never",
    api_name="predict",
)

if __name__ == "__main__":
    demo.launch(server_name="127.0.0.1")
